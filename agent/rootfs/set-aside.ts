// Disks that were set aside: those in whose place a resume has put an older one. Each is kept for as long as the
// generation is there for which it was set aside, a file or a directory beside the capsule's disk.

import { readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { hasCode } from "../native/syscall-error.ts";

/** After the disk's name; then come the generation's number and the disk's own. */
const INFIX = ".kept-";
/** Of one capsule: each may hold all that its guest wrote. */
const KEPT_MAX = 4;

/** Whether there is room for one more beside that disk. */
export async function canSetAside(disk: string): Promise<boolean> {
  return (await keptBeside(disk)).length < KEPT_MAX;
}

/** Sets what was replaced aside; nothing happens if nothing was. */
export async function setAside(
  disk: string,
  { replaced, generation }: { replaced: string; generation: number },
): Promise<void> {
  const numbers = (await keptBeside(disk)).map(({ number }) => number);
  const path = `${disk}${INFIX}${generation}-${Math.max(0, ...numbers) + 1}`;
  await rename(replaced, path).catch((error: unknown) => {
    if (!hasCode(error, "ENOENT")) throw error;
  });
}

/** Removes those that were set aside for other generations than these. */
export async function dropAsides(disk: string, generations: readonly number[]): Promise<void> {
  for (const { path, generation } of await keptBeside(disk)) {
    if (!generations.includes(generation)) await rm(path, { recursive: true, force: true });
  }
}

async function keptBeside(disk: string) {
  const prefix = basename(disk) + INFIX;
  return (await readdir(dirname(disk))).flatMap((name) => {
    if (!name.startsWith(prefix)) return [];
    const [generation = 0, number = 0] = name.slice(prefix.length).split("-").map(Number);
    return [{ path: join(dirname(disk), name), generation, number }];
  });
}
