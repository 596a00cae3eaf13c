// Bytes of a process as text of messages. A character that is split over two pieces of output is put
// together again; bytes that are no UTF-8 become U+FFFD, as they did in the first Wrenn.

import { OUTPUT_BYTES_MAX } from "./limits.ts";

export type OutputEncoding = "utf-8" | "base64";

/** The text of one stream of output. */
export class OutputText {
  readonly #encoding: OutputEncoding;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(encoding: OutputEncoding) {
    this.#encoding = encoding;
  }

  /** What can be told now, each text small enough for a message. */
  *add(bytes: Uint8Array): Generator<string> {
    for (const piece of pieces(bytes)) {
      const text =
        this.#encoding === "base64" ? piece.toBase64() : this.#decoder.decode(piece, STREAM);
      if (text !== "") yield text;
    }
  }

  /** What is left of a character that never came to its end. */
  *end(): Generator<string> {
    const text = this.#encoding === "base64" ? "" : this.#decoder.decode();
    if (text !== "") yield text;
  }
}

const STREAM = { stream: true };

/** The bytes in pieces of a message's size. */
export function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < bytes.byteLength; start += OUTPUT_BYTES_MAX) {
    yield bytes.subarray(start, start + OUTPUT_BYTES_MAX);
  }
}
