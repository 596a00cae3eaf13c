// Browsers send cookies with what any page asks, so who shows a cookie of ours, and nothing that browsers do not
// send by themselves, must come from a page of ours. Of a WebSocket a foreign page would read all that comes;
// of others it reads nothing, but what is asked for would be done, and a stream of events would stay open.

import { AppError } from "../errors.ts";

/** Names of our cookies, with the prefixes that bind a cookie to its host (RFC 6265bis, 4.1.3). */
const OWN_COOKIE = /^(?:__host-|__secure-)?wrenn_(?:sid|csrf|port|oauth)$/i;

/** What stands before the first `=`, and before another one where that is nothing. */
const NAME = /^[\s=]*([^=;]*)/;

/**
 * Whether `pair` of a Cookie or Set-Cookie header, `name=value…`, is about a cookie of ours. A cookie without a
 * name counts by its value, since browsers send that alone (RFC 6265bis, 5.8.3).
 */
export function isOwnCookie(pair: string): boolean {
  return OWN_COOKIE.test(NAME.exec(pair)?.[1]?.trim() ?? "");
}

/** Credentials that no page can have a browser send; Basic ones it may remember. */
const SHOWN_BY_PROGRAMS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ["x-api-key", /./],
  ["x-host-token", /./],
  ["authorization", /^bearer +\S/i],
];

export function isUpgrade({ headers }: Request): boolean {
  return headers.get("upgrade")?.toLowerCase() === "websocket";
}

/**
 * Throws `forbidden` for a request that shows a cookie of ours, but no key or token, and is of another page than
 * one of `origins`. Browsers leave the Origin out of what a page reads of its own site: there
 * `Sec-Fetch-Site` tells. What shows no cookie of ours may come from anywhere: it says itself who it is.
 */
export function assertOwnOrigin(request: Request, origins: ReadonlySet<string>): void {
  const { headers } = request;
  // Cookies of several headers are joined by a comma.
  if (!(headers.get("cookie") ?? "").split(/[;,]/).some(isOwnCookie)) return;
  if (SHOWN_BY_PROGRAMS.some(([name, pattern]) => pattern.test(headers.get(name) ?? ""))) return;
  const origin = headers.get("origin");
  const isOwn = origin === null ? isReadOfOwnSite(request) : origins.has(origin);
  if (isOwn) return;
  throw new AppError("forbidden", "Origin: a request with our cookies must come from our pages", {
    reason: "origin_not_allowed",
  });
}

/**
 * Throws `forbidden` for a request of another page than one of `origins`, whatever it shows: what begins a session
 * would begin it in the browser of whoever looks at that page.
 */
export function assertOwnPage({ headers }: Request, origins: ReadonlySet<string>): void {
  const origin = headers.get("origin");
  if (origin === null || origins.has(origin)) return;
  throw new AppError("forbidden", "Origin: to sign in is for our pages, and for programs", {
    reason: "origin_not_allowed",
  });
}

function isReadOfOwnSite(request: Request): boolean {
  const site = request.headers.get("sec-fetch-site") ?? "none";
  const isRead = request.method === "GET" || request.method === "HEAD";
  // Pages of capsules may be of the same site.
  return isRead && !isUpgrade(request) && (site === "none" || site === "same-origin");
}
