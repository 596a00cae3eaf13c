// What the rig's host gets of this machine: the work tree as it is, with the packages it needs and what was
// built, as a second disk that it mounts at /wrenn. Made for each run.

import { existsSync } from "node:fs";
import { mkdir, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../rootfs/run.ts";

/** Sparse: room for what tests write. */
const SIZE_GIB = 16;
/**
 * Of the base image there. It is hashed whole by whoever installs or examines it, holes and all, and an emulated
 * processor takes minutes for a gigabyte.
 */
const IMAGE_MIB = 640;
/** What is not in git, but for the trees that images were made from. */
const BUILT = [
  "node_modules",
  "build/envd",
  "build/kernel",
  "build/native",
  "build/rootfs",
  "build/tools",
  "builds",
];

/**
 * `programs`: of this machine, by where they are to be from the root.
 * @throws BuildError; the file is then unfinished.
 */
export async function buildPayload(
  root: string,
  options: { image: string; programs: ReadonlyMap<string, string> },
): Promise<void> {
  const { image, programs } = options;
  const tree = `${image}.tree`;
  await rm(tree, { recursive: true, force: true });
  await mkdir(tree, { recursive: true });
  try {
    const listed = await run(["git", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"]);
    // What git still lists may have been deleted.
    const files = listed.split("\0").filter((name) => name !== "" && existsSync(join(root, name)));
    for (let from = 0; from < files.length; from += 500) {
      const some = files.slice(from, from + 500);
      await run(["cp", "-a", "--parents", "-t", tree, ...some], { cwd: root });
    }
    const built = BUILT.filter((name) => existsSync(join(root, name)));
    // Names only: a copy of a gigabyte takes a minute on a busy disk.
    await run(["cp", "-al", "--parents", "-t", tree, ...built], { cwd: root });
    await run(["find", join(tree, "build/rootfs"), "-name", "*.tar", "-delete"]);
    await shrinkImage(join(tree, "build/rootfs/minimal-debian"));
    for (const [path, program] of programs) {
      await run(["install", "-D", "-m", "0755", program, join(tree, path)]);
    }
    await rm(image, { force: true });
    await Bun.write(image, "");
    await truncate(image, SIZE_GIB * 1024 ** 3);
    await run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", "wrenn", "-d", tree, image]);
  } finally {
    await rm(tree, { recursive: true, force: true });
  }
}

/** `<image>.ext4` with its `.sha256`, which are links to the work tree's. */
async function shrinkImage(image: string): Promise<void> {
  const [file, small, hash] = [`${image}.ext4`, `${image}.small`, `${image}.sha256`];
  await run(["cp", "--sparse=always", file, small]);
  // It insists on a file system that was just checked.
  await run(["e2fsck", "-fp", small]);
  await run(["resize2fs", small, `${IMAGE_MIB}M`]);
  await rename(small, file);
  const [sha256 = ""] = (await run(["sha256sum", file])).split(" ");
  await rm(hash);
  await writeFile(hash, `${sha256}\n`);
}
