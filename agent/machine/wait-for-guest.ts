// Waits until envd answers in a guest that has just been started.

import { stat } from "node:fs/promises";
import { AgentError } from "../errors.ts";
import type { Guest } from "../guest/guest.ts";
import type { VmmExit, VmmProcess } from "../vmm/vmm.ts";

/**
 * A packet to a guest whose interface is not up yet is lost, and TCP repeats it only after 1 s. The
 * interface of a restored guest is up: a try that is given up early only has to be made again.
 */
const FIRST_TRY_MS = { boot: 200, restore: 2_000 } as const;
/** A guest that is slow to answer, rather than not there, gets the time it needs. */
const LONGEST_TRY_MS = 5_000;
const TRY_GROWTH = 1.3;
/** Of the time waited so far: on a slow host tries cost the guest, too, and it is seen that much later at most. */
const PAUSE_SHARE = 0.02;

/**
 * Answers envd's version. Throws AgentError: unavailable when the time is up or the VMM ends first;
 * or the signal's reason.
 */
export async function waitForGuest(
  guest: Pick<Guest, "health">,
  options: {
    start: keyof typeof FIRST_TRY_MS;
    vmm: Pick<VmmProcess, "exited">;
    /** Since its start, or since its console was last seen to grow. */
    silenceMs: number;
    /** Since its start. */
    totalMs: number;
    consoleLog: string;
    pollMs: number;
    signal: AbortSignal;
  },
): Promise<string> {
  const ended = new AbortController();
  void options.vmm.exited.then((exit) => ended.abort(vmmEnded(exit)));
  const over = AbortSignal.any([options.signal, ended.signal]);
  const startedAt = performance.now();
  let [printed, printedAt] = ["", startedAt];
  let tryMs: number = FIRST_TRY_MS[options.start];
  let lastError: unknown;
  for (;;) {
    over.throwIfAborted();
    const now = performance.now();
    const consoleState = await stateOf(options.consoleLog);
    if (consoleState !== printed) [printed, printedAt] = [consoleState, now];
    const deadline = Math.min(startedAt + options.totalMs, printedAt + options.silenceMs);
    if (now >= deadline) break;
    try {
      const timeLeft = AbortSignal.timeout(Math.min(tryMs, deadline - now));
      return await guest.health(AbortSignal.any([over, timeLeft]));
    } catch (error) {
      lastError = error;
    }
    tryMs = Math.min(tryMs * TRY_GROWTH, LONGEST_TRY_MS);
    const waitedMs = performance.now() - startedAt;
    await Bun.sleep(Math.max(options.pollMs, PAUSE_SHARE * waitedMs));
  }
  over.throwIfAborted();
  const waitedSec = Math.round((performance.now() - startedAt) / 1000);
  throw guestFailure(`The guest was not up after ${waitedSec} s`, lastError);
}

/** Changes when something is printed, into a log that began anew, too. */
async function stateOf(consoleLog: string): Promise<string> {
  const status = await stat(consoleLog).catch(() => null);
  return status === null ? "" : `${status.size} ${status.mtimeMs}`;
}

/** Before its guest was up. */
export function vmmEnded({ reason, status, detail }: VmmExit): AgentError {
  return guestFailure(`The VMM ended during the start (${reason}, ${status})`, detail);
}

function guestFailure(message: string, cause?: unknown): AgentError {
  return new AgentError("unavailable", message, { subject: "guest", cause });
}
