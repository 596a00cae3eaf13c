// Where the body of an HTTP/1.1 message ends. A reader looks at bytes that pass and keeps none of them.

import { type BodyLength, MalformedHttp } from "./head.ts";

/** A chunk's size and extensions, and each trailer, on one line. */
const LINE_BYTES_MAX = 4096;
const TRAILER_BYTES_MAX = 16 * 1024;
const EMPTY = Buffer.alloc(0);
const CR = 13;
const LF = 10;

/** Gets where in the piece payload begins and ends, without the framing. */
export type PayloadSink = (start: number, end: number) => void;

export interface BodyReader {
  readonly isDone: boolean;
  /**
   * Looks at the piece; returns the index after the body's last byte in it. Throws
   * MalformedHttp.
   */
  read(piece: Buffer, sink?: PayloadSink): number;
}

export function bodyReader(length: BodyLength): BodyReader {
  if (length === 0) return NO_BODY;
  if (length === "chunked") return new ChunkedReader();
  return new CountedReader(length === "until-close" ? Number.POSITIVE_INFINITY : length);
}

/**
 * The payload of the piece, and the index after the body's last byte in it. In one piece of memory, for
 * a body may come in chunks of single bytes. Throws MalformedHttp.
 */
export function readPayload(body: BodyReader, piece: Buffer): { payload: Buffer; end: number } {
  let payload: Buffer = EMPTY;
  let joined: Buffer = EMPTY;
  let length = 0;
  const end = body.read(piece, (from, to) => {
    if (length === 0) payload = piece.subarray(from, to);
    else {
      if (joined.length === 0) {
        joined = Buffer.allocUnsafe(piece.length);
        payload.copy(joined);
      }
      piece.copy(joined, length, from, to);
    }
    length += to - from;
  });
  return { payload: joined.length === 0 ? payload : joined.subarray(0, length), end };
}

class CountedReader implements BodyReader {
  #left: number;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  get isDone(): boolean {
    return this.#left === 0;
  }

  read(piece: Buffer, sink?: PayloadSink): number {
    const end = Math.min(piece.length, this.#left);
    this.#left -= end;
    if (end > 0) sink?.(0, end);
    return end;
  }
}

/** It reads nothing and never changes. */
const NO_BODY: BodyReader = { isDone: true, read: () => 0 };

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

  read(piece: Buffer, sink?: PayloadSink): number {
    let at = 0;
    while (at < piece.length && this.#state !== "done") {
      if (this.#state === "data") {
        const end = Math.min(piece.length, at + this.#size);
        sink?.(at, end);
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
