// How many files, sockets among them, this process may have open.

import { readFileSync } from "node:fs";

/** The soft limit (getrlimit(2)), which Bun raises to the hard one at its start. */
export function openFilesMax(): number {
  const limits = readFileSync("/proc/self/limits", "latin1");
  const soft = /^Max open files +(\d+|unlimited)/m.exec(limits)?.[1];
  if (soft === undefined) throw new Error("/proc/self/limits does not tell the open files");
  return soft === "unlimited" ? Number.MAX_SAFE_INTEGER : Number(soft);
}
