// Who may read a program's own metrics: whoever knows its token.

import { createHash, timingSafeEqual } from "node:crypto";

/** A token that fits in a file of Prometheus and in nobody's guesses. */
export const SCRAPE_TOKEN_LENGTH_MIN = 16;

const SCHEME = /^Bearer +/i;

/** Whether the `Authorization` header carries the token; takes as long for any wrong one. */
export function hasScrapeToken(authorization: string | null, token: string): boolean {
  if (authorization === null || !SCHEME.test(authorization)) return false;
  return timingSafeEqual(sha256(authorization.replace(SCHEME, "")), sha256(token));
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
