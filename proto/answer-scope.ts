// What a request holds until its answer has been taken. A server that is handed a large answer in one piece
// keeps it for as long as a slow client likes; so large ones go out piece by piece, as the client takes them,
// and what was held for them is given back with the last.

import { AsyncLocalStorage } from "node:async_hooks";
import type { HeldBytes } from "./byte-budget.ts";

/** Answers with less behind them are handed over whole: the server's own buffers are as large. */
const SMALL_BYTES = 64 * 1024;
const PIECE_BYTES = 256 * 1024;
/** Of unary answers; what streams holds nothing. */
const WHOLE = /^application\/(json|proto)\b/;

interface Scope {
  readonly held: HeldBytes[];
  isOver: boolean;
}

const scopes = new AsyncLocalStorage<Scope>();

/** Given back when the answer of the request that is being served has been taken; at once without one. */
export function untilAnswered(held: HeldBytes): void {
  const scope = scopes.getStore();
  if (scope === undefined || scope.isOver) held[Symbol.dispose]();
  else scope.held.push(held);
}

/** Serves a request. `signal` aborts when its client goes away. */
export async function answerInScope<T>(
  signal: AbortSignal,
  serve: () => Promise<T> | T,
): Promise<T | Response> {
  const scope: Scope = { held: [], isOver: false };
  const end = () => {
    scope.isOver = true;
    for (const held of scope.held) held[Symbol.dispose]();
  };
  let answer: T;
  try {
    answer = await scopes.run(scope, serve);
  } catch (error) {
    end();
    throw error;
  }
  const bytes = scope.held.reduce((sum, held) => sum + held.bytes, 0);
  if (bytes <= SMALL_BYTES || !(answer instanceof Response) || !isWhole(answer)) {
    end();
    return answer;
  }
  signal.addEventListener("abort", end, { once: true });
  const { status, headers } = answer;
  const whole = await answer.bytes();
  // What most was held for has become the answer, which may be larger: a byte can take six in JSON.
  const [most, ...others] = scope.held.toSorted((a, b) => b.bytes - a.bytes);
  for (const held of others) held[Symbol.dispose]();
  most?.become(whole.byteLength);
  if (signal.aborted) end();
  return new Response(inPieces(whole, end), { status, headers });
}

/** Whether it is there already, rather than a stream. */
function isWhole({ body, headers }: Response): boolean {
  return body !== null && WHOLE.test(headers.get("content-type") ?? "");
}

function inPieces(whole: Uint8Array, end: () => void): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        if (at >= whole.byteLength) {
          end();
          controller.close();
          return;
        }
        controller.enqueue(whole.subarray(at, at + PIECE_BYTES));
        at += PIECE_BYTES;
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
}
