// Events of an agent's stream, read one at a time.

import { Code, ConnectError } from "@connectrpc/connect";
import { agentFailure } from "../agents/agent-errors.ts";
import { AppError } from "../errors.ts";

/**
 * The events of the stream that `open` begins, which ends when `gone` aborts or the caller stops
 * reading. Throws `exec_timeout` when the process was killed at its deadline, and what other calls to
 * agents throw; `host_unavailable` also when the agent falls silent, for it tells at times that a
 * stream lives.
 */
export async function* agentEvents<T>(
  open: (options: { signal: AbortSignal }) => AsyncIterable<T>,
  gone: AbortSignal,
): AsyncGenerator<T> {
  const leaving = new AbortController();
  try {
    yield* open({ signal: AbortSignal.any([gone, leaving.signal]) });
  } catch (error) {
    throw streamFailure(error);
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
