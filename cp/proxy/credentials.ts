// What a request carries for us must not reach the guest, whose code is nobody's friend.
//
// `X-API-Key` and `X-Host-Token` are our headers and never pass; nor do our cookies. `Authorization` passes
// unless it holds an API key of ours (its prefix tells) or a token that we signed, valid or expired: a
// server in a guest may have Basic and Bearer credentials of its own. `X-Access-Token` passes unless it is
// the capsule's own, with which a process in the guest could become root.

import { createHmac, timingSafeEqual } from "node:crypto";
import type { Header } from "../../proto/http1/head.ts";
import { isOwnCookie } from "../auth/own-origin.ts";

const OWN_HEADERS = new Set([
  "x-api-key",
  "x-host-token",
  "e2b-traffic-access-token",
  "x-wrenn-traffic-token",
]);
const API_KEY = /(?:^|[^0-9A-Za-z])(?:wrn|e2b)_[0-9a-f]{8}/i;
const JWT = /[\w-]+\.[\w-]+\.[\w-]+/;

export class OwnCredentials {
  readonly #jwtSecret: string;

  constructor(jwtSecret: string) {
    this.#jwtSecret = jwtSecret;
  }

  /**
   * The headers of a request without what is meant for us; `envdToken` tells the capsule's, null when
   * the request is for envd itself.
   */
  strip(headers: readonly Header[], envdToken: () => string | null): Header[] {
    const kept: Header[] = [];
    for (const line of headers) {
      if (OWN_HEADERS.has(line.key)) continue;
      if (line.key === "authorization" && this.#isOurs(line.value)) continue;
      if (line.key === "x-access-token" && isToken(line.value, envdToken())) continue;
      if (line.key !== "cookie") kept.push(line);
      else {
        const value = withoutOwnCookies(line.value);
        if (value !== "") kept.push({ ...line, value });
      }
    }
    return kept;
  }

  #isOurs(authorization: string): boolean {
    const [scheme = "", credentials = ""] = authorization.split(/\s+/, 2);
    const isBasic = scheme.toLowerCase() === "basic";
    const text = isBasic ? Buffer.from(credentials, "base64").toString("latin1") : authorization;
    if (API_KEY.test(text)) return true;
    const token = JWT.exec(text)?.[0];
    return token !== undefined && this.#hasSigned(token);
  }

  #hasSigned(token: string): boolean {
    const dot = token.lastIndexOf(".");
    const mac = createHmac("sha256", this.#jwtSecret)
      .update(token.slice(0, dot))
      .digest("base64url");
    return isSame(token.slice(dot + 1), mac);
  }
}

/** Whether a response's Set-Cookie would replace a cookie of ours in the browser. */
export function setsOwnCookie(line: Header): boolean {
  return line.key === "set-cookie" && isOwnCookie(line.value);
}

/** In constant time, whatever was sent. */
export function isSame(given: string, expected: string): boolean {
  const a = Buffer.from(given);
  const b = Buffer.from(expected);
  return a.length === b.length && timingSafeEqual(a, b);
}

function isToken(given: string, expected: string | null): boolean {
  return expected !== null && isSame(given, expected);
}

function withoutOwnCookies(value: string): string {
  const cookies = value.split(";").map((cookie) => cookie.trim());
  return cookies.filter((cookie) => !isOwnCookie(cookie)).join("; ");
}
