// Whether the disk has room for a pause.

import { readFile, statfs } from "node:fs/promises";
import { hasCode } from "../native/syscall-error.ts";
import { SnapshotError } from "./snapshot-error.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
/** Left free on the disk by a pause, for journals, logs and the disks of guests that run. */
const FREE_BYTES_MIN = 512 * MIB;

/**
 * So that sealing finds room: memory that the guest has touched, at most. Throws SnapshotError
 * no_space.
 */
export async function assertPauseSpace(dir: string, vmmPid: number): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  const needed = (await residentBytes(vmmPid)) + FREE_BYTES_MIN;
  if (bavail * bsize >= needed) return;
  const message = `${needed} bytes are needed on the disk of ${dir} and ${bavail * bsize} free`;
  throw new SnapshotError("no_space", message);
}

/** Whether the disk has no room for what a VMM writes when it is saved. */
export async function isFull(dir: string): Promise<boolean> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize < MIB;
}

/** 0 if the process has ended. */
async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "latin1").catch((error: unknown) => {
    if (hasCode(error, "ENOENT", "ESRCH")) return "";
    throw error;
  });
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0) * KIB;
}
