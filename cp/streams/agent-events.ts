// Events of an agent's stream, read one at a time.

import { Code, ConnectError } from "@connectrpc/connect";
import { agentFailure } from "../agents/agent-errors.ts";
import { AppError } from "../errors.ts";
import { AGENT_SILENCE_MS_MAX } from "./limits.ts";

/**
 * The events of the stream that `open` begins, which ends when `gone` aborts or the caller stops
 * reading. Agents tell at times that a stream lives; `host_unavailable` when one does not. Throws
 * `exec_timeout` when the process was killed at its deadline, and what other calls to agents throw.
 */
export async function* agentEvents<T>(
  open: (options: { signal: AbortSignal }) => AsyncIterable<T>,
  gone: AbortSignal,
): AsyncGenerator<T> {
  const leaving = new AbortController();
  const silent = new AppError("host_unavailable", "The capsule's host does not answer");
  const signal = AbortSignal.any([gone, leaving.signal]);
  const events = open({ signal })[Symbol.asyncIterator]();
  try {
    for (;;) {
      const timer = setTimeout(() => leaving.abort(silent), AGENT_SILENCE_MS_MAX);
      const next = await events.next().finally(() => clearTimeout(timer));
      if (next.done === true) return;
      yield next.value;
    }
  } catch (error) {
    throw leaving.signal.aborted ? silent : streamFailure(error);
  } finally {
    // A reader that waits for the agent would otherwise hold the connection.
    leaving.abort();
  }
}

function streamFailure(error: unknown): AppError {
  const cause = ConnectError.from(error);
  return cause.code === Code.DeadlineExceeded
    ? new AppError("exec_timeout", "the command was killed at its time limit", { cause })
    : agentFailure(error, "capsule");
}
