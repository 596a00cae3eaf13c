// Telling whoever is behind us who asked, how, and for which host.

import { type Header, header, headerOf, type RequestHead } from "../../proto/http1/head.ts";
import type { Peer } from "../../proto/http1/verdict.ts";

const FORWARDED = new Set([
  "forwarded",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
]);

/** X-Forwarded-For, -Proto and -Host. Only a proxy on this machine is believed about whom it serves. */
export function forwardedHeaders(request: RequestHead, peer: Peer): Header[] {
  const isTrusted = isLocal(peer.address);
  const reported = (key: string) => (isTrusted ? headerOf(request.headers, key) : null);
  return [
    header("X-Forwarded-For", reported("x-forwarded-for") ?? peer.address),
    header("X-Forwarded-Proto", reported("x-forwarded-proto") ?? peer.scheme),
    header("X-Forwarded-Host", reported("x-forwarded-host") ?? request.authority),
  ];
}

export function withoutForwarded(headers: readonly Header[]): Header[] {
  return headers.filter(({ key }) => !FORWARDED.has(key));
}

function isLocal(address: string): boolean {
  return address === "::1" || address.startsWith("127.") || address.startsWith("::ffff:127.");
}
