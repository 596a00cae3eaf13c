// The heads that one side of a connection sends one after the other. A program sends the same header lines
// with most of its messages: those are read once, and it is by their bytes that they are known again.

import type { ByteWindow } from "./byte-window.ts";
import {
  HeadFinder,
  type Known,
  parseRequest,
  parseResponse,
  type RequestHead,
  type ResponseHead,
  withRequestLine,
} from "./head.ts";
import { markRepeated } from "./repeated-lines.ts";

/** Of a head that is kept; what programs send is shorter, and there may be thousands of connections. */
const KEPT_LENGTH_MAX = 2048;

interface Before<Head> extends Known<Head> {
  /** For an answer the whole head, for a request without the first line. */
  readonly text: string;
}

export class HeadReader {
  readonly #finder = new HeadFinder();
  #request: Before<RequestHead> | null = null;
  #response: (Before<ResponseHead> & { readonly isForHead: boolean }) | null = null;

  /** Takes the next request's head; null: it is not whole yet. Throws MalformedHttp. */
  takeRequest(bytes: ByteWindow): RequestHead | null {
    const text = this.#finder.take(bytes);
    if (text === null) return null;
    const end = text.indexOf("\r\n");
    const behind = end < 0 ? "" : text.slice(end);
    const before = this.#request;
    if (before !== null && before.text === behind) {
      const line = end < 0 ? text : text.slice(0, end);
      const same = withRequestLine(line, before.head);
      if (same !== null) {
        markRepeated(same.headers);
        return same;
      }
    }
    const lines = text.split("\r\n");
    const head = parseRequest(lines, before);
    this.#request = text.length > KEPT_LENGTH_MAX ? null : { head, lines, text: behind };
    return head;
  }

  /** Takes the next answer's head, to a request of that method, as `takeRequest`. */
  takeResponse(bytes: ByteWindow, method: string): ResponseHead | null {
    const text = this.#finder.take(bytes);
    if (text === null) return null;
    const isForHead = method === "HEAD";
    const before = this.#response;
    if (before !== null && before.text === text && before.isForHead === isForHead) {
      markRepeated(before.head.headers);
      return before.head;
    }
    const lines = text.split("\r\n");
    const head = parseResponse(lines, method, before);
    this.#response = text.length > KEPT_LENGTH_MAX ? null : { head, lines, text, isForHead };
    return head;
  }
}
