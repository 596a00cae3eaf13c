// Calls that a host's own restart cuts off. Only for those that the agent joins or repeats without
// harm: it knows them by their operation id, or they change nothing.

import { isCutOff, NoAgent } from "./agent-errors.ts";
import { RESTART_TIMEOUT_MS } from "./limits.ts";

/** Between two tries: an agent that has just started answers at once. */
const PAUSE_MS = 100;

export interface CallOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * The answer of the call, which is repeated while the agent restarts, for `RESTART_TIMEOUT_MS` from
 * when it was cut off and for `timeoutMs` in all. Throws the last failure; at once when the agent
 * has answered, or when `signal` aborts.
 */
export async function acrossRestart<T>(
  { timeoutMs, signal }: CallOptions,
  call: (options: CallOptions) => Promise<T>,
): Promise<T> {
  const endsAt = performance.now() + timeoutMs;
  let cutOffAt: number | null = null;
  for (;;) {
    const askedAt = performance.now();
    try {
      return await call({ timeoutMs: Math.max(1, Math.ceil(endsAt - askedAt)), signal });
    } catch (error) {
      const failedAt = performance.now();
      // An agent that had taken the call is another one that ended; what answers in its place may be slow.
      const wasTaken = failedAt - askedAt > PAUSE_MS && !(error instanceof NoAgent);
      if (cutOffAt === null || wasTaken) cutOffAt = failedAt;
      const nextAt = failedAt + PAUSE_MS;
      const isOver = nextAt > cutOffAt + RESTART_TIMEOUT_MS || nextAt > endsAt;
      if (isOver || signal.aborted || !isCutOff(error)) throw error;
    }
    await Bun.sleep(PAUSE_MS);
  }
}
