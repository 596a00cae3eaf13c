// How long a piece of work keeps everybody else in the program from their turn.

import { setImmediate } from "node:timers/promises";

/** Of the event loop, for anything that one client or guest sends. */
export const PAUSE_MS_MAX = 50;

const ATTEMPTS = 3;

/**
 * The longest time between two turns of the event loop while the work runs, in milliseconds that this
 * thread had a processor: what other programs of the machine take does not count. The shortest of
 * several attempts, for the first ones have the compiler's work in them.
 */
export async function longestPauseMs(work: () => Promise<unknown>): Promise<number> {
  let shortestMs = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < ATTEMPTS && shortestMs > PAUSE_MS_MAX / 2; attempt++) {
    shortestMs = Math.min(shortestMs, await longestPauseOnceMs(work));
  }
  return shortestMs;
}

async function longestPauseOnceMs(work: () => Promise<unknown>): Promise<number> {
  await setImmediate();
  let isOver = false;
  let longestMs = 0;
  let turnAtMs = threadMs();
  const watch = async () => {
    while (!isOver) {
      await setImmediate();
      const nowMs = threadMs();
      longestMs = Math.max(longestMs, nowMs - turnAtMs);
      turnAtMs = nowMs;
    }
  };
  const watching = watch();
  await work().finally(() => {
    isOver = true;
  });
  await watching;
  return longestMs;
}

/** Processor time of this thread so far. */
export function threadMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
