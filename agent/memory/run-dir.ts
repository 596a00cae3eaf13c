// The run directory: a tmpfs with one directory per living capsule, which holds its RAM file.

import { mkdir, stat, statfs } from "node:fs/promises";
import { totalmem } from "node:os";
import { dirname } from "node:path";
import type { Kernel } from "../native/kernel.ts";

const MIB = 1024 * 1024;
// linux/magic.h
const TMPFS_MAGIC = 0x01021994;

/**
 * Mounts the run directory, made if missing, mode 0700; one that is mounted stays, with the capsules that live in
 * it. The tmpfs may grow to the host's memory: what bounds it are the capsules' cgroups, which its pages are charged
 * to. With `hasHugePages` RAM files that are touched from then on have pages of 2 MiB, where the host has some.
 * Throws SyscallError.
 */
export async function mountRunDir(
  kernel: Kernel,
  dir: string,
  { hasHugePages }: { hasHugePages: boolean },
): Promise<void> {
  const huge = hasHugePages ? "within_size" : "never";
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if (!(await isTmpfsMount(dir))) {
    const sizeMib = Math.ceil(totalmem() / MIB);
    await kernel.storage.mountTmpfs(dir, { sizeMib, mode: 0o700 });
  }
  await kernel.storage.setTmpfsHuge(dir, huge);
}

/** Unmounts it if it is mounted. Throws SyscallError EBUSY while something in it is in use. */
export async function unmountRunDir(kernel: Kernel, dir: string): Promise<void> {
  if (await isTmpfsMount(dir)) await kernel.storage.unmount(dir);
}

async function isTmpfsMount(dir: string): Promise<boolean> {
  const [own, parent] = await Promise.all([stat(dir), stat(dirname(dir))]).catch(() => []);
  if (own === undefined || parent === undefined || own.dev === parent.dev) return false;
  return (await statfs(dir)).type === TMPFS_MAGIC;
}
