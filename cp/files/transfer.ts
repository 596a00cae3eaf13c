// A file on its way to or from a client: it ends with the client, and with the client's right to it.

import type { GrantedCaller } from "../auth/authenticator.ts";
import type { OpenStreams } from "../auth/open-streams.ts";

export interface Transfer extends Disposable {
  /** Of either end. */
  readonly signal: AbortSignal;
  /** Of the right to it; its reason is what the client is told. */
  readonly revoked: AbortSignal;
}

/** Begins one; it is looked after until it is disposed of. */
export function beginTransfer(
  openStreams: OpenStreams,
  caller: GrantedCaller,
  { signal }: Pick<Request, "signal">,
): Transfer {
  const revoking = new AbortController();
  const watching = openStreams.watch(caller, {
    isUse: true,
    end: (why) => revoking.abort(why),
  });
  return {
    signal: AbortSignal.any([signal, revoking.signal]),
    revoked: revoking.signal,
    [Symbol.dispose]: () => watching[Symbol.dispose](),
  };
}

/** What an upload fails with: that it was taken away, if it was, whatever else that led to. */
export function uploadFailure({ revoked }: Transfer, error: unknown): unknown {
  return revoked.aborted ? revoked.reason : error;
}
