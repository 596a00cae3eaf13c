// Headers that concern one connection only (RFC 9110, 7.6.1) and end at every proxy.

import { connectionTokens, type Header } from "./head.ts";
import { isRepeated, LinesCache, markRepeated } from "./repeated-lines.ts";

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
export function endToEnd(headers: readonly Header[]): readonly Header[] {
  const known = passed.get(headers);
  if (known !== undefined) return known;
  const named = connectionTokens(headers);
  const kept = headers.filter(
    ({ key }) =>
      !HOP_BY_HOP.has(key) && (!named.has(key) || key === "content-length" || key === "host"),
  );
  if (isRepeated(headers)) markRepeated(kept);
  return passed.keep(headers, kept);
}

const passed = new LinesCache<readonly Header[]>();
