// Bodies of HTTP/1.1 from a generator: a chunked body's payload and end are found whatever its chunks are and
// however it is cut, and what is damaged is understood in one way or not at all.

import { expect, test } from "bun:test";
import { FUZZ_TIMEOUT_MS, fuzz, type Random } from "../../tests/harness/random.ts";
import { bodyReader, readPayload } from "./body.ts";
import { MalformedHttp } from "./head.ts";

const EXTENSION = ' \t;="abc09\x80\xff';
const DAMAGE = "\r\n\r\n\0\t ;/09:@AFG`afg\x7f";

/** The payload in chunks, with extensions and trailers. */
function chunked(random: Random, payload: Buffer): Buffer {
  const pieces: Buffer[] = [];
  for (const chunk of random.pieces(payload)) {
    if (chunk.length === 0) continue;
    const digits = chunk.length.toString(16).padStart(1 + random.below(8), "0");
    const size = random.oneIn(2) ? digits : digits.toUpperCase();
    const extension = random.oneIn(3) ? `;${random.text(EXTENSION, random.size(20))}` : "";
    pieces.push(Buffer.from(`${size}${extension}\r\n`, "latin1"), chunk, Buffer.from("\r\n"));
  }
  const trailers = random.list(3, () => `X-${random.text("abc", 3)}: ${random.size(999)}\r\n`);
  return Buffer.concat([...pieces, Buffer.from(`0\r\n${trailers.join("")}\r\n`)]);
}

/** What a reader makes of the pieces. */
function read(pieces: readonly Buffer[]) {
  const reader = bodyReader("chunked");
  const payload: Buffer[] = [];
  let end = 0;
  try {
    for (const piece of pieces) {
      const found = readPayload(reader, piece);
      payload.push(Buffer.from(found.payload));
      end += found.end;
      if (reader.isDone) break;
    }
  } catch (error) {
    if (error instanceof MalformedHttp) return { isMalformed: true };
    throw error;
  }
  return { isMalformed: false, isDone: reader.isDone, end, payload: Buffer.concat(payload) };
}

/** Read by the grammar of RFC 9112, 7.1, all at once; null: it is no whole body. */
function byGrammar(body: Buffer): { end: number; payload: Buffer<ArrayBuffer> } | null {
  const text = body.toString("latin1");
  const size = /([0-9a-f]{1,13})(?:[; \t][\t -\xff]*)?\r\n/iy;
  const trailers = /(?:[\t -\xff]+\r\n)*\r\n/y;
  const payload: Buffer[] = [];
  for (let at = 0; ; ) {
    size.lastIndex = at;
    const bytes = Number.parseInt(size.exec(text)?.[1] ?? "", 16);
    if (Number.isNaN(bytes)) return null;
    if (bytes === 0) {
      trailers.lastIndex = size.lastIndex;
      return trailers.test(text)
        ? { end: trailers.lastIndex, payload: Buffer.concat(payload) }
        : null;
    }
    const end = size.lastIndex + bytes;
    if (text.slice(end, end + 2) !== "\r\n") return null;
    payload.push(body.subarray(size.lastIndex, end));
    at = end + 2;
  }
}

test(
  "a chunked body is read as it was written, however it is cut, and what follows stays",
  () =>
    fuzz((random) => {
      const payload = random.bytes(random.size(2000));
      const body = chunked(random, payload);
      const stream = Buffer.concat([body, random.bytes(random.size(50))]);

      expect(read(random.pieces(stream))).toMatchObject({
        ...{ isMalformed: false, isDone: true },
        ...{ end: body.length, payload },
      });
    }),
  FUZZ_TIMEOUT_MS,
);

test(
  "a damaged chunked body is the same body, or none, however it is cut",
  () =>
    fuzz((random) => {
      const body = random.damaged(chunked(random, random.bytes(random.size(300))), DAMAGE);

      const whole = read([body]);

      expect(read(random.pieces(body))).toEqual(whole);
      expect(whole.isDone ? { end: whole.end, payload: whole.payload } : null).toEqual(
        byGrammar(body),
      );
    }),
  FUZZ_TIMEOUT_MS,
);

test(
  "a counted body ends after its bytes",
  () =>
    fuzz((random) => {
      const stream = random.bytes(random.size(500));
      const length = random.size(600);
      const reader = bodyReader(length);

      const ends = random.pieces(stream).map((piece) => reader.read(piece));

      const end = ends.reduce((sum, bytes) => sum + bytes, 0);
      expect([end, reader.isDone]).toEqual([
        Math.min(length, stream.length),
        stream.length >= length,
      ]);
    }),
  FUZZ_TIMEOUT_MS,
);
