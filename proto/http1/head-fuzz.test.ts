// Heads of HTTP/1.1 from a generator: what is formatted is read as it was, whatever is read means the same
// when it is formatted again, and where it was cut on the way makes no difference.

import { expect, test } from "bun:test";
import { byteWork } from "../../tests/harness/byte-work.ts";
import { FUZZ_TIMEOUT_MS, fuzz, type Random } from "../../tests/harness/random.ts";
import { ByteWindow } from "./byte-window.ts";
import {
  formatHead,
  type Header,
  HeadFinder,
  header,
  MalformedHttp,
  parseRequestHead,
  parseResponseHead,
} from "./head.ts";

const TOKEN = "!#$%&'*+-.^_`|~09AZaz";
const LATIN = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code));
/** Of header values inside: blanks may not be at their ends. */
const VALUE = LATIN.filter((char) => /[ -~\t\x80-\xff]/.test(char)).join("");
const VISIBLE = LATIN.filter((char) => /[!-~\x80-\xff]/.test(char)).join("");
const PATH = LATIN.filter((char) => /[!-~\x80-\xff]/.test(char)).join("");
const DAMAGE =
  "\r\n\r\n\0 \t:,;%/-0123456789\x7f\xa0\x85GETHTTP/1.Content-Length: Transfer-Encoding: chunked";
/** Names that mean something to the reader. */
const KNOWN = ["Connection", "Upgrade", "Content-Length", "Transfer-Encoding", "Host"];

function fieldValue(random: Random): string {
  const inside = random.text(VALUE, random.size(60));
  return inside === "" ? "" : `${random.text(VISIBLE, 1)}${inside}${random.text(VISIBLE, 1)}`;
}

function headersOf(random: Random): Header[] {
  const others = random.list(20, () => {
    const name = random.text(TOKEN, 1 + random.size(20));
    const isKnown = KNOWN.some((known) => known.toLowerCase() === name.toLowerCase());
    return header(isKnown ? `X-${name}` : name, fieldValue(random));
  });
  const framing = random.pick([
    [],
    [header("Content-Length", `${random.size(2 ** 31)}`)],
    [header("transfer-encoding", "Chunked")],
    [header("Connection", "keep-alive, Upgrade"), header("Upgrade", "websocket")],
  ]);
  return [...others, ...framing];
}

function requestOf(random: Random) {
  const method = random.text(TOKEN, 1 + random.size(12));
  const target = `/${random.text(PATH, random.size(100))}`;
  const headers = headersOf(random);
  headers.splice(random.below(headers.length + 1), 0, header("HoSt", "a.example:80"));
  return { method, target, headers };
}

test(
  "a request is read as it was formatted",
  () =>
    fuzz((random) => {
      const { method, target, headers } = requestOf(random);
      const bytes = formatHead(`${method} ${target} HTTP/1.1`, headers);

      const read = parseRequestHead(bytes);

      expect([read.method, read.target, read.headers]).toEqual([method, target, headers]);
      expect(formatHead(`${read.method} ${read.target} HTTP/1.1`, read.headers)).toEqual(bytes);
    }),
  FUZZ_TIMEOUT_MS,
);

test(
  "a response is read as it was formatted",
  () =>
    fuzz((random) => {
      const headers = headersOf(random);
      const status = 100 + random.below(500);
      const reason = fieldValue(random);
      const bytes = formatHead(`HTTP/1.1 ${status} ${reason}`, headers);

      const read = parseResponseHead(bytes, random.pick(["GET", "HEAD"]));

      expect([read.status, read.reason, read.headers]).toEqual([status, reason, headers]);
    }),
  FUZZ_TIMEOUT_MS,
);

// What passes on is what was understood: a second reader sees the same message, or there is none.
test(
  "whatever is taken for a request means the same after it was passed on",
  () =>
    fuzz((random) => {
      const { method, target, headers } = requestOf(random);
      const bytes = formatHead(`${method} ${target} HTTP/1.1`, headers);
      const damaged = random.damaged(bytes.subarray(0, -4), DAMAGE);
      const read = orMalformed(() =>
        parseRequestHead(Buffer.concat([damaged, Buffer.from("\r\n\r\n")])),
      );
      if (read === null) return;

      const line = `${read.method} ${read.target} HTTP/1.${read.minor}`;
      const again = parseRequestHead(formatHead(line, read.headers));

      expect({ ...again, authority: read.authority }).toEqual(read);
      for (const { name, value } of read.headers) expect(`${name}${value}`).not.toMatch(/[\r\n\0]/);
    }),
  FUZZ_TIMEOUT_MS,
);

test(
  "a head ends where it ends however it is cut, and finding it costs time in proportion",
  () =>
    fuzz(async (random) => {
      const { method, target, headers } = requestOf(random);
      const bytes = formatHead(`${method} ${target} HTTP/1.1`, headers);
      const message = random.oneIn(2) ? bytes : random.damaged(bytes, DAMAGE);
      const stream = Buffer.concat([message, message, Buffer.from("rest")]);
      const whole = headsIn([stream]);
      const pieces = random.pieces(stream);

      const cut: unknown[] = [];
      const work = await byteWork(() => void cut.push(headsIn(pieces)));

      expect(cut).toEqual([whole]);
      expect(work).toBeLessThan(16 * stream.length + 4 * pieces.length);
    }),
  FUZZ_TIMEOUT_MS,
);

test("a head that never ends is refused at its bound, however slowly it comes", async () => {
  const finder = new HeadFinder();
  const bytes = new ByteWindow();
  const blank = Buffer.from(" ");
  let added = 0;

  const work = await byteWork(() => {
    for (; orMalformed(() => [finder.take(bytes)]) !== null; added++) bytes.add(blank);
  });

  expect(added).toBe(64 * 1024 + 1);
  expect(work).toBeLessThan(16 * added);
});

/** The heads in these pieces, and what is left; the second is null when one is too long. */
function headsIn(pieces: readonly Buffer[]): { heads: string[]; left: string | null } {
  const finder = new HeadFinder();
  const bytes = new ByteWindow();
  const heads: string[] = [];
  for (const piece of pieces) {
    bytes.add(piece);
    for (let head = finder.take(bytes); head !== null; head = finder.take(bytes)) {
      heads.push(head);
    }
  }
  return { heads, left: bytes.take(bytes.length).toString("latin1") };
}

function orMalformed<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof MalformedHttp) return null;
    throw error;
  }
}
