// Tells how each call to an agent ended, and when.

import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

export interface AgentCallOutcome {
  readonly method: string;
  /** `ok`, or the name of a Connect code. */
  readonly outcome: string;
  /** Until the answer, or the end of the stream that is the answer. */
  readonly seconds: number;
}

/** An interceptor of a client; `observe` must not throw. */
export function observeCalls(observe: (call: AgentCallOutcome) => void): Interceptor {
  return (next) => async (request) => {
    const startedAt = performance.now();
    let hasEnded = false;
    const end = (outcome: string) => {
      if (hasEnded) return;
      hasEnded = true;
      const seconds = (performance.now() - startedAt) / 1000;
      observe({ method: request.method.name, outcome, seconds });
    };
    try {
      const response = await next(request);
      if (!response.stream) {
        end("ok");
        return response;
      }
      // Whoever stops reading aborts; the messages themselves are not told.
      request.signal.addEventListener("abort", () => end("Canceled"), { once: true });
      return { ...response, message: withEnd(response.message, end) };
    } catch (error) {
      end(codeName(error));
      throw error;
    }
  };
}

/** The messages; `end` is called after the last one. */
async function* withEnd<T>(
  messages: AsyncIterable<T>,
  end: (outcome: string) => void,
): AsyncGenerator<T> {
  try {
    yield* messages;
    end("ok");
  } catch (error) {
    end(codeName(error));
    throw error;
  }
}

function codeName(error: unknown): string {
  return Code[ConnectError.from(error).code] ?? "Unknown";
}
