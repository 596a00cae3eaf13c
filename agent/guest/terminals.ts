// What is done to a terminal besides reading it: typing, resizing, killing.

import { invalidField } from "../errors.ts";
import { INPUT_BYTES_MAX } from "../limits.ts";
import type { Guest } from "./guest.ts";
import { guestError } from "./guest-errors.ts";
import type { TerminalSize } from "./process-streams.ts";
import { signalProcess } from "./processes.ts";

/**
 * Types into the terminal and returns when its process's side has taken all of it, however long that
 * takes. Throws AgentError: not_found (no such terminal), failed_precondition, invalid_argument,
 * resource_exhausted (too much waits already), aborted (the caller went away: what it sent may still be
 * read).
 */
export async function sendTerminalInput(
  guest: Guest,
  terminal: { tag: string; data: Uint8Array },
  caller: AbortSignal,
): Promise<void> {
  const { tag, data } = terminal;
  if (data.byteLength > INPUT_BYTES_MAX) {
    throw invalidField("data", `must be at most ${INPUT_BYTES_MAX} bytes`);
  }
  using _place = guest.openInput();
  using held = guest.hold();
  held.take(data.byteLength);
  const signal = AbortSignal.any([guest.awaited, caller]);
  const input = { input: { case: "pty" as const, value: data } };
  try {
    await guest.processes.sendInput({ process: { selector: byTag(tag) }, input }, { signal });
  } catch (error) {
    throw guestError(error, { subject: "process", closed: guest.closed });
  }
}

/** Throws AgentError: not_found, failed_precondition (the process has no terminal). */
export async function resizeTerminal(
  guest: Guest,
  { tag, size }: { tag: string; size: TerminalSize },
): Promise<void> {
  const request = { process: { selector: byTag(tag) }, pty: { size: { ...size } } };
  await guest.call({ subject: "process" }, (o) => guest.processes.update(request, o));
}

/** Kills all that runs in the terminal. Throws AgentError: not_found. */
export async function killTerminal(guest: Guest, tag: string): Promise<void> {
  await signalProcess(guest, byTag(tag), "SIGKILL");
}

function byTag(tag: string): { case: "tag"; value: string } {
  return { case: "tag", value: tag };
}
