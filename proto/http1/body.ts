// Where the body of an HTTP/1.1 message ends. A reader looks at bytes that pass and keeps none of them.

import { type BodyLength, MalformedHttp } from "./head.ts";

/** A chunk's size and extensions, and each trailer, on one line. */
const LINE_BYTES_MAX = 4096;
const TRAILER_BYTES_MAX = 16 * 1024;
const CR = 13;
const LF = 10;

/** Gets the parts of each piece that are payload, without the framing. */
export type PayloadSink = (payload: Buffer) => void;

export interface BodyReader {
  readonly isDone: boolean;
  /**
   * Looks at the piece from `start`; returns the index after the body's last byte in it. Throws
   * MalformedHttp.
   */
  read(piece: Buffer, start: number, sink?: PayloadSink): number;
}

export function bodyReader(length: BodyLength): BodyReader {
  if (length === "chunked") return new ChunkedReader();
  return new CountedReader(length === "until-close" ? Number.POSITIVE_INFINITY : length);
}

class CountedReader implements BodyReader {
  #left: number;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  get isDone(): boolean {
    return this.#left === 0;
  }

  read(piece: Buffer, start: number, sink?: PayloadSink): number {
    const end = Math.min(piece.length, start + this.#left);
    this.#left -= end - start;
    if (end > start) sink?.(piece.subarray(start, end));
    return end;
  }
}

type State = "size" | "extension" | "size-lf" | "data" | "data-cr" | "data-lf" | "trailer" | "done";

class ChunkedReader implements BodyReader {
  #state: State = "size";
  #size = 0;
  #digits = 0;
  /** Bytes of the line that is being read. */
  #line = 0;
  #trailerBytes = 0;
  #sawCr = false;

  get isDone(): boolean {
    return this.#state === "done";
  }

  read(piece: Buffer, start: number, sink?: PayloadSink): number {
    let at = start;
    while (at < piece.length && this.#state !== "done") {
      if (this.#state === "data") {
        const end = Math.min(piece.length, at + this.#size);
        sink?.(piece.subarray(at, end));
        this.#size -= end - at;
        at = end;
        if (this.#size === 0) this.#state = "data-cr";
      } else {
        this.#step(piece[at] ?? 0);
        at += 1;
      }
    }
    return at;
  }

  #step(byte: number): void {
    switch (this.#state) {
      case "size":
        this.#readSize(byte);
        return;
      case "extension":
        if (byte === CR) this.#state = "size-lf";
        else if (byte < 32 && byte !== 9) throw malformed();
        else if (++this.#line > LINE_BYTES_MAX) throw malformed();
        return;
      case "size-lf":
        if (byte !== LF) throw malformed();
        this.#line = 0;
        this.#digits = 0;
        this.#state = this.#size === 0 ? "trailer" : "data";
        return;
      case "data-cr":
        if (byte !== CR) throw malformed();
        this.#state = "data-lf";
        return;
      case "data-lf":
        if (byte !== LF) throw malformed();
        this.#state = "size";
        return;
      case "trailer":
        this.#readTrailer(byte);
    }
  }

  #readSize(byte: number): void {
    const digit = hexDigit(byte);
    if (digit >= 0) {
      // 13 digits keep the size exact.
      if (++this.#digits > 13) throw malformed();
      this.#size = this.#digits === 1 ? digit : this.#size * 16 + digit;
    } else if (this.#digits === 0) throw malformed();
    else if (byte === CR) this.#state = "size-lf";
    else if (byte === 59 || byte === 32 || byte === 9) this.#state = "extension";
    else throw malformed();
  }

  /** Lines up to an empty one. */
  #readTrailer(byte: number): void {
    if (++this.#trailerBytes > TRAILER_BYTES_MAX) throw malformed();
    if (this.#sawCr) {
      if (byte !== LF) throw malformed();
      this.#sawCr = false;
      if (this.#line === 0) this.#state = "done";
      this.#line = 0;
    } else if (byte === CR) this.#sawCr = true;
    else if (byte < 32 && byte !== 9) throw malformed();
    else this.#line += 1;
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

function malformed(): MalformedHttp {
  return new MalformedHttp("The chunks of the body are malformed");
}
