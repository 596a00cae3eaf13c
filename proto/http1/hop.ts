// Headers that concern one connection only (RFC 9110, 7.6.1) and end at every proxy.

import { connectionTokens, type Header } from "./head.ts";

const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Those that a proxy passes on; the framing of the body is added again by whoever writes the head. */
export function endToEnd(headers: readonly Header[]): Header[] {
  const named = connectionTokens(headers);
  return headers.filter(
    ({ key }) =>
      !HOP_BY_HOP.has(key) && (!named.has(key) || key === "content-length" || key === "host"),
  );
}
