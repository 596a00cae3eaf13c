// How much memory the host can still give away.

import { readFileSync } from "node:fs";
import { AgentError } from "../errors.ts";
import { HOST_MEMORY_RESERVE_MIB } from "../limits.ts";

/** Throws AgentError resource_exhausted unless a capsule of that size leaves the host enough. */
export function assertMemory(memoryMib: number): void {
  if (availableMemoryMib() - memoryMib >= HOST_MEMORY_RESERVE_MIB) return;
  throw new AgentError("resource_exhausted", "The host has too little memory left", {
    subject: "host",
  });
}

/** MemAvailable of /proc/meminfo. */
function availableMemoryMib(): number {
  // A file of the kernel's memory: reading it never waits.
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
  if (kib === undefined) throw new Error("/proc/meminfo has no MemAvailable");
  return Math.floor(Number(kib) / 1024);
}
