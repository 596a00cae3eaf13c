// Telling whoever is behind us who asked, how, and for which host.

import { type Header, header, headerOf, type RequestHead } from "../../proto/http1/head.ts";
import { originOf } from "../../proto/http1/origin.ts";
import type { Peer } from "../../proto/http1/verdict.ts";
import type { TrustedProxies } from "../client-address.ts";

const FORWARDED = new Set([
  "forwarded",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
]);

/** X-Forwarded-For, -Proto and -Host. Only a trusted proxy is believed about whom it serves. */
export function forwardedHeaders(
  request: RequestHead,
  peer: Peer,
  proxies: TrustedProxies,
): Header[] {
  const isTrusted = proxies.includes(peer.address);
  const told = (key: string) => (isTrusted ? headerOf(request.headers, key) : null);
  return [
    header("X-Forwarded-For", told("x-forwarded-for") ?? peer.address),
    header("X-Forwarded-Proto", told("x-forwarded-proto") ?? peer.scheme),
    header("X-Forwarded-Host", told("x-forwarded-host") ?? request.authority),
  ];
}

/** Of the pages that the browser gets from the host that it asks. */
export function outsideOrigin(request: RequestHead, peer: Peer, proxies: TrustedProxies): string {
  const [, scheme, host] = forwardedHeaders(request, peer, proxies).map(({ value }) => {
    return value.split(",", 1)[0]?.trim() ?? "";
  });
  return originOf(scheme ?? "", host ?? "");
}

/** Whom a trusted proxy forwards for; null when it is none, or does not tell. */
export function forwardedClient(
  request: RequestHead,
  peer: Peer,
  proxies: TrustedProxies,
): string | null {
  if (!proxies.includes(peer.address)) return null;
  const forwardedFor = headerOf(request.headers, "x-forwarded-for");
  return forwardedFor === null ? null : proxies.clientOf(forwardedFor);
}

export function withoutForwarded(headers: readonly Header[]): Header[] {
  return headers.filter(({ key }) => !FORWARDED.has(key));
}
