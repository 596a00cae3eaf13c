// A call that goes on for a while: it ends with the client, and with the client's right to it.

import type { GrantedCaller } from "./authenticator.ts";
import type { OpenStreams } from "./open-streams.ts";

export interface Revocable extends Disposable {
  /** Of either end. */
  readonly signal: AbortSignal;
  /** Of the right to it; its reason is what the client is told. */
  readonly revoked: AbortSignal;
}

/** Begins one; it is looked after until it is disposed of. */
export function beginRevocable(
  openStreams: OpenStreams,
  caller: GrantedCaller,
  { signal }: Pick<Request, "signal">,
): Revocable {
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

/** What it fails with: that it was taken away, if it was, whatever else that led to. */
export function revocationOr({ revoked }: Revocable, error: unknown): unknown {
  return revoked.aborted ? revoked.reason : error;
}
