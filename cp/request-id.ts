// The id that names a request: in its answer, in the body of an error, and in the log.

import { randomHex } from "./digest.ts";

export const REQUEST_ID_HEADER = "X-Request-ID";

const HARMLESS = /^[A-Za-z0-9._-]{1,64}$/;

/** The client's own, from its header of that name, if that is harmless; else a new one. */
export function requestIdOf(own: string | null): string {
  return own !== null && HARMLESS.test(own) ? own : `req_${randomHex(8)}`;
}
