// Makes an ext4 file system from a directory, the same bytes each time.
//
// - mke2fs visits names in order already. Times of inodes and the superblock would be the build's:
//   reproducible.c, preloaded into mke2fs, gives it the image's date instead. UUID, hash seed and
//   features are given.
// - The inode tables are marked as initialised: mke2fs punches the file first (discard), which then
//   reads as zeros, so it writes none. Else each guest would write all of them to its own disk in the
//   background.
// - There is a journal: a capsule's disk must survive a VMM that is killed. It starts as a hole too.
// - No blocks are reserved for root, who is the default user of a capsule.

import { truncate } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../run.ts";
import type { DebianRecipe } from "./recipes.ts";

const SHIM_SOURCE = join(import.meta.dirname, "reproducible.c");

/** Files whose contents decide what the same tree becomes. */
export const FILE_SYSTEM_SOURCES = [SHIM_SOURCE, import.meta.path];

/** Holds seconds of a capsule's metadata; the default for this size would be 64 MiB. */
const JOURNAL_MIB = 16;

/** Named one by one, since mke2fs's defaults change with its version and the host's mke2fs.conf.
 *  resize_inode lets the guest grow the file system while it is mounted. */
const FEATURES = [
  ...["none", "has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent"],
  ...["64bit", "flex_bg", "sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize"],
  "metadata_csum",
];

export interface FileSystemOptions {
  /** The directory that becomes `/`. */
  readonly root: string;
  /** The file to write; it must not exist. */
  readonly image: string;
  /** Seconds since 1970; nothing in the file system is dated later. */
  readonly epoch: number;
  /** Directory for the build's own files. */
  readonly work: string;
  readonly recipe: Pick<DebianRecipe, "name" | "sizeMib" | "uuid">;
}

/** @throws BuildError with the words of the compiler or of mke2fs; `image` is then unfinished. */
export async function makeFileSystem(options: FileSystemOptions): Promise<void> {
  const { root, image, epoch, work, recipe } = options;
  const shim = join(work, "reproducible.so");
  await run([
    ...["gcc", "-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"],
    ...["-o", shim, SHIM_SOURCE],
  ]);
  await Bun.write(image, "");
  await truncate(image, recipe.sizeMib * 1024 * 1024);
  const extended = [
    `hash_seed=${recipe.uuid}`,
    ...["discard", "lazy_itable_init=0", "lazy_journal_init=1", "root_owner=0:0"],
  ];
  await run(
    [
      ...["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0"],
      ...["-O", FEATURES.join(","), "-J", `size=${JOURNAL_MIB}`, "-E", extended.join(",")],
      ...["-U", recipe.uuid, "-L", recipe.name.slice(0, 16), "-d", root, image],
    ],
    {
      env: {
        LC_ALL: "C", // The order of names.
        MKE2FS_CONFIG: "/dev/null",
        LD_PRELOAD: shim,
        WRENN_EPOCH: String(epoch),
        SOURCE_DATE_EPOCH: String(epoch), // What mke2fs itself obeys from 1.47.1 on.
      },
    },
  );
}
