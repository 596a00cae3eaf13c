// Which process a pid meant when it was written down. A pid alone may be somebody else's by now.

import { readFileSync } from "node:fs";

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, decimal: field 22 of /proc/<pid>/stat. */
  readonly startTime: string;
}

/** Whether this very process lives. One that ended and waits for its parent does not. */
export function isAlive(process: ProcessIdentity): boolean {
  return readStartTime(process.pid) === process.startTime;
}

/** The start time of the process with that pid now, or null if there is none that lives. */
export function readStartTime(pid: number): string | null {
  const stat = readStat(pid);
  return stat === null ? null : parseStartTime(stat);
}

/**
 * Signals this very process; false if it has ended. Between the look and the signal the pid could
 * only be given away if the process ended and the whole range of pids was used up.
 */
export function signalProcess(target: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(target)) return false;
  try {
    process.kill(target.pid, signal);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ESRCH") return false;
    throw error;
  }
}

/** Exported for its test: null for the dead ("Z", "X") and for what is no stat line. */
export function parseStartTime(stat: string): string | null {
  // The name in brackets may hold spaces and brackets itself.
  const [state = "", ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const startTime = rest[18] ?? "";
  return /^[RSDTtIPKW]$/.test(state) && /^\d+$/.test(startTime) ? startTime : null;
}

function readStat(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    if (code === "ENOENT" || code === "ESRCH") return null;
    throw error;
  }
}
