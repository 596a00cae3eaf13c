// Picks how the root disks of this host are copied.

import { chmod, mkdir, readdir } from "node:fs/promises";
import type { Kernel } from "../native/kernel.ts";
import { FileDisks } from "./file-disks.ts";
import { MappedDisks } from "./mapped-disks.ts";
import { canReflink } from "./probe-reflink.ts";
import type { CowKind, RootDisks } from "./root-disks.ts";

export interface OpenRootDisksOptions {
  /** $WRENN_DIR/sandboxes; on one file system with the images. */
  readonly dir: string;
  readonly cow: CowKind | "auto";
  readonly kernel: Kernel;
  /** The agent's, in names of devices. */
  readonly tag: string;
}

/**
 * With "auto" reflink if `dir` can, else copy. Throws, saying why, if the kind asked for cannot work here, or
 * if there are disks that only another kind can use. Removes disks that were half made when the agent died.
 */
export async function openRootDisks(options: OpenRootDisksOptions): Promise<RootDisks> {
  const { dir, kernel, cow } = options;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await chmod(dir, 0o700);
  const kind = cow === "auto" ? ((await canReflink(kernel, dir)) ? "reflink" : "copy") : cow;
  if (cow === "reflink" && !(await canReflink(kernel, dir))) {
    throw new Error(
      `WRENN_COW=reflink: the file system of ${dir} cannot share extents (XFS and btrfs can)`,
    );
  }
  const others = (await readdir(dir)).filter((name) => name.endsWith(OTHER_SUFFIX[kind]));
  if (others.length > 0) {
    const example = `${others.length} of them, such as ${others[0]}`;
    throw new Error(`WRENN_COW=${kind}: ${dir} has disks that were made otherwise (${example})`);
  }
  return kind === "dm" ? MappedDisks.open(options) : FileDisks.open({ kind, dir, kernel });
}

const OTHER_SUFFIX: Readonly<Record<CowKind, string>> = {
  reflink: ".dm",
  copy: ".dm",
  dm: ".ext4",
};
