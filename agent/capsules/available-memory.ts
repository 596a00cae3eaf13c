// How much memory the host can still give away.

import { readFileSync } from "node:fs";

/** MemAvailable of /proc/meminfo. */
export function availableMemoryMib(): number {
  // A file of the kernel's memory: reading it never waits.
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
  if (kib === undefined) throw new Error("/proc/meminfo has no MemAvailable");
  return Math.floor(Number(kib) / 1024);
}
