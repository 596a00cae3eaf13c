// Files and directories that are on the disk when the promise resolves.

import { link, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hasCode } from "../native/syscall-error.ts";

/** Of a file or a directory. */
export async function sync(path: string): Promise<void> {
  await using file = await open(path, "r");
  await file.sync();
}

/** All that a file holds. Throws a RangeError when that is more than `bytesMax`, and reads none of it then. */
export async function readWhole(path: string, bytesMax: number): Promise<Buffer> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  if (size > bytesMax) throw new RangeError(`${path} has ${size} bytes, more than ${bytesMax}`);
  return await file.readFile();
}

/** An empty directory, whatever was there. */
export async function makeAnew(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { mode: 0o700 });
}

/** The directory's content must be synced already. Replaces nothing: ENOTEMPTY, EEXIST. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await sync(dirname(to));
}

/**
 * Puts a directory out of sight at once, then removes it; nothing happens if there is none. On a disk so full
 * that there is no room for the other name it is removed where it is.
 */
export async function removeDirectory(directory: string): Promise<void> {
  const aside = `${directory}${REMOVED_SUFFIX}`;
  await rm(aside, { recursive: true, force: true });
  try {
    await rename(directory, aside);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return;
    if (!hasCode(error, "ENOSPC")) throw error;
    await rm(directory, { recursive: true, force: true });
    return;
  }
  await rm(aside, { recursive: true, force: true });
}
const REMOVED_SUFFIX = ".removed";
/** Of a directory that is written aside until it is whole. */
export const PARTIAL_SUFFIX = ".partial";

/**
 * Removes what a crash left in a directory of things half written or half removed, and what has the
 * prefix of things that no crash survives. MUST NOT be called while anything is written or removed
 * there; nothing happens if there is no such directory.
 */
export async function sweepUnfinished(directory: string, prefix?: string): Promise<void> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  });
  for (const name of names) {
    const isUnfinished = name.endsWith(REMOVED_SUFFIX) || name.endsWith(PARTIAL_SUFFIX);
    if (!isUnfinished && !(prefix && name.startsWith(prefix))) continue;
    await rm(join(directory, name), { recursive: true, force: true });
  }
}

/** Hard links: the file system counts who still needs a file. */
export async function linkFiles(
  names: readonly string[],
  directories: { from: string; to: string },
): Promise<void> {
  await Promise.all(
    names.map((name) => link(join(directories.from, name), join(directories.to, name))),
  );
}
