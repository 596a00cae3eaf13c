// Browsers send cookies with every WebSocket, whoever's page opens it, and no rule of theirs keeps the
// page from reading what comes back. So an upgrade with a cookie of ours must come from a page of ours.

import { AppError } from "../errors.ts";

/** Names of our cookies, with the prefixes that bind a cookie to its host (RFC 6265bis, 4.1.3). */
const OWN_COOKIE = /^(?:__host-|__secure-)?wrenn_(?:sid|csrf|port)$/i;

/** What stands before the first `=`, and before another one where that is nothing. */
const NAME = /^[\s=]*([^=;]*)/;

/**
 * Whether `pair` of a Cookie or Set-Cookie header, `name=value…`, is about a cookie of ours. A cookie without a
 * name counts by its value, since browsers send that alone (RFC 6265bis, 5.8.3).
 */
export function isOwnCookie(pair: string): boolean {
  return OWN_COOKIE.test(NAME.exec(pair)?.[1]?.trim() ?? "");
}

export function isUpgrade({ headers }: Request): boolean {
  return headers.get("upgrade")?.toLowerCase() === "websocket";
}

/**
 * Throws `forbidden` for an upgrade that carries a cookie of ours and no Origin out of `origins`. One
 * without such a cookie may come from anywhere: it says itself who it is.
 */
export function assertOwnOrigin(request: Request, origins: ReadonlySet<string>): void {
  if (!isUpgrade(request)) return;
  const cookies = request.headers.get("cookie") ?? "";
  // Cookies of several headers are joined by a comma.
  if (!cookies.split(/[;,]/).some(isOwnCookie)) return;
  if (origins.has(request.headers.get("origin") ?? "")) return;
  throw new AppError("forbidden", "Origin: a WebSocket with our cookies must come from our pages", {
    reason: "origin_not_allowed",
  });
}
