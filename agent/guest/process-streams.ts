// Long-lived streams of what processes print. Nothing is held here: a piece is read from the guest
// when the caller asks for it, so that a slow caller makes the process wait. A caller that goes away
// leaves the process running.

import { Code, ConnectError } from "@connectrpc/connect";
import type { ProcessEvent } from "../../proto/gen/envd/process_pb.js";
import { inSlices } from "../../proto/time-slice.ts";
import { AgentError } from "../errors.ts";
import { GUEST_CALL_TIMEOUT_MS, GUEST_KEEPALIVE_SEC, KILL_GRACE_MS } from "../limits.ts";
import { type Command, processConfig } from "./exec.ts";
import { asUser, type Guest } from "./guest.ts";
import { guestError } from "./guest-errors.ts";
import { badAnswer } from "./guest-http.ts";
import { IdleTimer } from "./idle-timer.ts";
import type { ProcessRef } from "./processes.ts";

/** What a process does, as its readers see it. */
export type GuestEvent =
  | { readonly kind: "start"; readonly pid: number }
  | { readonly kind: "stdout" | "stderr" | "pty"; readonly bytes: Uint8Array }
  | { readonly kind: "end"; readonly exitCode: number; readonly error: string }
  /** Nothing has happened for a while. */
  | { readonly kind: "keepalive" };

export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

type Events = AsyncIterable<{ event?: ProcessEvent | undefined }>;

/**
 * Runs a command; the first event is its start, the last its end. At `timeoutMs`, if not null, its
 * process group is killed. Throws AgentError: what exec throws for a start, deadline_exceeded,
 * unavailable, failed_precondition (the capsule ended).
 */
export async function* streamCommand(
  guest: Guest,
  command: Command,
  options: { timeoutMs: number | null; caller: AbortSignal },
): AsyncGenerator<GuestEvent> {
  const { timeoutMs, caller } = options;
  const user = command.user ? { user: command.user } : {};
  const timeout = timeoutMs === null ? {} : { "Connect-Timeout-Ms": String(timeoutMs) };
  // For an envd that does not end the stream at its deadline.
  const late = timeoutMs === null ? [] : [AbortSignal.timeout(timeoutMs + KILL_GRACE_MS)];
  const request = { process: processConfig(command), stdin: false };
  yield* follow(
    guest,
    { caller: AbortSignal.any([caller, ...late]), ...user, headers: timeout },
    (o) => guest.processStreams.start(request, o),
  );
}

/** Starts a command on a terminal of its own. As streamCommand, without a deadline. */
export async function* startTerminal(
  guest: Guest,
  command: Command,
  options: { tag: string; size: TerminalSize; caller: AbortSignal },
): AsyncGenerator<GuestEvent> {
  const { tag, size, caller } = options;
  const user = command.user ? { user: command.user } : {};
  const envs = { TERM: "xterm-256color", ...command.envs };
  const process = processConfig({ ...command, envs });
  yield* follow(guest, { caller, ...user, headers: {} }, (o) =>
    guest.processStreams.start({ process, pty: { size: { ...size } }, tag }, o),
  );
}

/**
 * Attaches to a process: its start, then what it prints from now on, after a terminal's past if
 * `withScrollback`. Throws AgentError: not_found, unavailable, failed_precondition.
 */
export async function* connectProcess(
  guest: Guest,
  process: ProcessRef,
  options: { withScrollback: boolean; caller: AbortSignal },
): AsyncGenerator<GuestEvent> {
  const request = { process: { selector: process }, scrollback: options.withScrollback };
  yield* follow(guest, { caller: options.caller, headers: {} }, (o) =>
    guest.processStreams.connect(request, o),
  );
}

interface StreamCall {
  readonly caller: AbortSignal;
  readonly user?: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The events of a call to envd until the end event, the caller's leaving or the guest's silence. */
async function* follow(
  guest: Guest,
  call: StreamCall,
  open: (options: { signal: AbortSignal; headers: Record<string, string> }) => Events,
): AsyncGenerator<GuestEvent> {
  using _place = guest.openStream();
  using silence = new IdleTimer(GUEST_CALL_TIMEOUT_MS);
  const { caller, user } = call;
  const headers = {
    "Keepalive-Ping-Interval": String(GUEST_KEEPALIVE_SEC),
    ...(user === undefined ? {} : asUser(user)),
    ...call.headers,
  };
  const leaving = new AbortController();
  const signal = AbortSignal.any([guest.closed, silence.signal, caller, leaving.signal]);
  try {
    let isStarted = false;
    for await (const { event } of inSlices(open({ signal, headers }))) {
      const reported = toGuestEvent(event);
      if (reported === null) continue;
      if (reported.kind !== "keepalive" && isStarted === (reported.kind === "start")) {
        throw badAnswer("its events are out of order");
      }
      isStarted ||= reported.kind === "start";
      // Only the guest's time counts, not that of whoever takes the event.
      silence.pause();
      yield reported;
      if (reported.kind === "end") return;
      silence.touch();
    }
    throw new ConnectError("stream ended before the process", Code.DataLoss);
  } catch (error) {
    throw streamError(error, guest, call);
  } finally {
    leaving.abort();
  }
}

function toGuestEvent(event: ProcessEvent | undefined): GuestEvent | null {
  const reported = event?.event;
  switch (reported?.case) {
    case "start":
      return { kind: "start", pid: reported.value.pid };
    case "data": {
      const { output } = reported.value;
      return output.case === undefined ? null : { kind: output.case, bytes: output.value };
    }
    case "end":
      return { kind: "end", exitCode: reported.value.exitCode, error: reported.value.error ?? "" };
    case "keepalive":
      return { kind: "keepalive" };
    default:
      return null;
  }
}

function streamError(error: unknown, guest: Guest, { caller, user }: StreamCall): AgentError {
  if (!(error instanceof AgentError) && !guest.closed.aborted) {
    const isTimeout = caller.reason instanceof Error && caller.reason.name === "TimeoutError";
    if (isTimeout || ConnectError.from(error).code === Code.DeadlineExceeded) {
      return new AgentError("deadline_exceeded", "The command was killed at its deadline", {
        subject: "process",
        cause: error,
      });
    }
    if (caller.aborted) {
      return new AgentError("aborted", "The caller went away", {
        subject: "request",
        cause: error,
      });
    }
  }
  return guestError(error, {
    subject: "process",
    closed: guest.closed,
    ...(user === undefined ? {} : { user }),
  });
}
