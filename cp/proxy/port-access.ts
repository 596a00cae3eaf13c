// Who may ask a private port of a capsule: whoever shows its traffic token.
//
// Programs send it in a header. A browser sends none when it opens a page, so it may come once in the
// query: the answer keeps it as a cookie of that port alone and leads to the same address without it. The
// cookie is no token, and opens one port only.
//
// A browser sends cookies with what other pages ask, too, and capsules are neighbours: the page of one is
// of the same site as all others. So the cookie counts for what a page of the port itself asks, and for
// opening a page, but not for requests of others, WebSockets and forms among them. Preflights of CORS pass
// without anything, for browsers send none with them: they have no body, and tell what the server tells.

import { createHmac } from "node:crypto";
import { type Header, header, headerOf, type RequestHead } from "../../proto/http1/head.ts";
import type { Answer } from "../../proto/http1/verdict.ts";
import { REQUEST_ID_HEADER, requestIdOf } from "../request-id.ts";
import { isSame } from "./credentials.ts";

const TOKEN_HEADERS = ["e2b-traffic-access-token", "x-wrenn-traffic-token"] as const;
const TOKEN_PARAMETER = "wrenn_traffic_token";
const COOKIE = "wrenn_port";

const [E2B_HEADER, OWN_HEADER] = TOKEN_HEADERS;
const SECURED = "Sandbox is secured with traffic access token.";
const HEADERS = `header '${E2B_HEADER}' or '${OWN_HEADER}'`;
/** What is said without access: how to show the token, every way, beginning as clients of E2B know it. */
export const NO_ACCESS = {
  missing: `${SECURED} Token ${HEADERS}, or parameter '${TOKEN_PARAMETER}' of a page, is missing`,
  invalid: `${SECURED} Provided token in ${HEADERS}, or parameter '${TOKEN_PARAMETER}', is invalid`,
} as const;

export interface PrivatePort {
  readonly port: number;
  /** As a page of this port has it. */
  readonly origin: string;
  readonly trafficToken: string;
}

/** granted: it may pass; missing and invalid: the token; else what it is answered. */
export type PortAccess = "granted" | "missing" | "invalid" | Answer;

export function accessTo(request: RequestHead, port: PrivatePort): PortAccess {
  const { headers } = request;
  const token = headerOf(headers, E2B_HEADER) ?? headerOf(headers, OWN_HEADER);
  if (token !== null) return isSame(token, port.trafficToken) ? "granted" : "invalid";
  if (isPreflight(request)) return "granted";
  const parameter = tokenIn(request.target);
  if (parameter !== null && isPageRequest(request)) {
    return isSame(parameter, port.trafficToken) ? welcome(request, port) : "invalid";
  }
  return isFromItself(request, port) && hasCookie(headers, port) ? "granted" : "missing";
}

/** The path and query without the token. */
export function withoutToken(target: string): string {
  const [path = "", query] = split(target);
  if (query === undefined || !query.includes(TOKEN_PARAMETER)) return target;
  const others = query.split("&").filter((pair) => !isToken(pair));
  return others.length === 0 ? path : `${path}?${others.join("&")}`;
}

function welcome(request: RequestHead, port: PrivatePort): Answer {
  const isSecure = port.origin.startsWith("https:");
  // In frames of other sites, where browsers allow that at all; each of those sites has its own.
  const attributes = isSecure ? "Secure; SameSite=None; Partitioned" : "SameSite=Lax";
  const cookie = `${cookieName(isSecure)}=${cookieOf(port)}; Path=/; HttpOnly; ${attributes}`;
  return {
    status: 302,
    headers: [
      header("Location", sameHost(withoutToken(request.target))),
      header("Set-Cookie", cookie),
      header("Cache-Control", "no-store"),
      header("Referrer-Policy", "no-referrer"),
      header(REQUEST_ID_HEADER, requestIdOf(headerOf(request.headers, "x-request-id"))),
    ],
    body: "",
  };
}

/** A path that begins with two slashes would name a host. Browsers take a backslash for one. */
function sameHost(target: string): string {
  return /^\/[/\\]/.test(target) ? `/.${target}` : target;
}

function tokenIn(target: string): string | null {
  const [, query] = split(target);
  const pair = query?.split("&").find(isToken);
  return pair === undefined ? null : pair.slice(TOKEN_PARAMETER.length + 1);
}

/** Written as it is: nothing of the name or of a token needs an escape. */
function isToken(pair: string): boolean {
  return pair.startsWith(`${TOKEN_PARAMETER}=`);
}

function split(target: string): [string, string | undefined] {
  const at = target.indexOf("?");
  return at < 0 ? [target, undefined] : [target.slice(0, at), target.slice(at + 1)];
}

function isPageRequest({ method, upgrade }: RequestHead): boolean {
  return (method === "GET" || method === "HEAD") && upgrade === null;
}

/** As the Fetch standard has it; anything else may make the server do something. */
function isPreflight({ method, headers, bodyLength, upgrade }: RequestHead): boolean {
  const isAsking = headerOf(headers, "access-control-request-method") !== null;
  const hasOrigin = headerOf(headers, "origin") !== null;
  return method === "OPTIONS" && isAsking && hasOrigin && bodyLength === 0 && upgrade === null;
}

/** Not what another page makes the browser ask, unless that is to open a page. */
function isFromItself(request: RequestHead, port: PrivatePort): boolean {
  const { headers } = request;
  const origin = headerOf(headers, "origin");
  if (origin !== null && origin !== port.origin) return false;
  const site = headerOf(headers, "sec-fetch-site");
  const mode = headerOf(headers, "sec-fetch-mode");
  // A form that is sent navigates, too, and what it sends may do something.
  const opensPage = mode === "navigate" && isPageRequest(request);
  return opensPage || site === null || site === "same-origin" || site === "none";
}

function hasCookie(headers: readonly Header[], port: PrivatePort): boolean {
  const name = cookieName(port.origin.startsWith("https:"));
  const expected = cookieOf(port);
  const cookies = (headerOf(headers, "cookie") ?? "").split(/[;,]/);
  return cookies.some((pair) => {
    const text = pair.trim();
    return text.startsWith(`${name}=`) && isSame(text.slice(name.length + 1), expected);
  });
}

/** With a prefix that keeps other hosts from setting it (RFC 6265bis, 4.1.3.2). */
function cookieName(isSecure: boolean): string {
  return isSecure ? `__Host-${COOKIE}` : COOKIE;
}

function cookieOf({ trafficToken, port }: PrivatePort): string {
  return createHmac("sha256", trafficToken).update(`port ${port}`).digest("base64url");
}
