// Bodies of multipart/form-data from a generator: what was written is read back, whatever is in it and however
// it is cut, and what is damaged is understood in one way or not at all.

import { expect, test } from "bun:test";
import { byteWork } from "../../tests/harness/byte-work.ts";
import { FUZZ_TIMEOUT_MS, fuzz, type Random } from "../../tests/harness/random.ts";
import { readMultipart } from "./multipart.ts";

const BOUNDARY = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'()+_,-./:=?";
/** What escapes are made of, and what ends quotes. */
const NAME = "ab\"\\%;= üé日\r\n*'";
const PARTS_MAX = 20;

class Malformed extends Error {}

interface Field {
  readonly name: string;
  readonly fileName: string | null;
  readonly content: Buffer;
}

function fieldOf(random: Random, boundary: string): Field {
  // What is nearly a delimiter, among other things.
  const near = random.list(8, () => `\r\n--${boundary}`.slice(0, random.size(boundary.length + 3)));
  const content = Buffer.concat([
    ...near.map((text) => Buffer.from(text)),
    random.bytes(random.size(400)),
  ]);
  const isWhole = !content.includes(`--${boundary}`);
  return {
    name: nameOf(random),
    fileName: random.oneIn(2) ? null : nameOf(random),
    content: isWhole ? content : Buffer.from("-"),
  };
}

/** As browsers can send it: their line ends are CRLF. */
function nameOf(random: Random): string {
  return random.text(NAME, random.size(20)).replace(/\r\n|\r|\n/g, "\r\n");
}

/** WHATWG, multipart/form-data encoding algorithm, with quoted pairs for what it leaves as it is. */
function quoted(name: string): string {
  const escaped = name.replaceAll("\r\n", "%0D%0A").replaceAll('"', "%22");
  return `"${escaped.replaceAll("\\", "\\\\")}"`;
}

/** RFC 5987. */
function extended(name: string): string {
  return `UTF-8''${encodeURIComponent(name).replaceAll("'", "%27")}`;
}

function write(random: Random, boundary: string, fields: readonly Field[]): Buffer {
  const line = (text: string) => Buffer.from(`${text}\r\n`);
  const isExtended = random.oneIn(3);
  const parts = fields.flatMap(({ name, fileName, content }) => {
    const file =
      fileName === null
        ? ""
        : isExtended
          ? `; filename*=${extended(fileName)}`
          : `; filename=${quoted(fileName)}`;
    const disposition = `Content-Disposition: form-data; name=${quoted(name)}${file}`;
    const others = random.list(3, (index) => `X-${index}: ${random.text("ab:; ", 10)}`);
    const head = random.oneIn(2) ? [disposition, ...others] : [...others, disposition];
    const padding = random.oneIn(8) ? " \t" : "";
    return [line(`--${boundary}${padding}`), ...head.map(line), line(""), content, line("")];
  });
  const preamble = random.oneIn(4) ? line("before") : Buffer.from("");
  const epilogue = random.bytes(random.size(30));
  return Buffer.concat([preamble, ...parts, Buffer.from(`--${boundary}--`), epilogue]);
}

async function* stream(pieces: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}

/** All parts, or what was wrong. */
async function read(pieces: readonly Buffer[], boundary: string): Promise<Field[] | string> {
  const options = { partsMax: PARTS_MAX, malformed: (why: string) => new Malformed(why) };
  const type = `multipart/form-data; boundary="${boundary}"`;
  const fields: Field[] = [];
  try {
    for await (const { name, fileName, content } of readMultipart(stream(pieces), type, options)) {
      const bytes: Buffer[] = [];
      for await (const piece of content) bytes.push(Buffer.from(piece));
      fields.push({ name, fileName, content: Buffer.concat(bytes) });
    }
  } catch (error) {
    if (error instanceof Malformed) return error.message;
    throw error;
  }
  return fields;
}

test(
  "a body is read as it was written, however it is cut, and costs time in proportion",
  () =>
    fuzz(async (random) => {
      const boundary = random.text(BOUNDARY, 1 + random.size(69));
      const fields = random.list(6, () => fieldOf(random, boundary));
      const body = write(random, boundary, fields);
      const pieces = random.pieces(body);

      const found: unknown[] = [];
      const work = await byteWork(async () => {
        found.push(await read(pieces, boundary));
      });

      expect(found).toEqual([fields]);
      // Of each piece what may be the start of a delimiter is looked at again.
      expect(work).toBeLessThan(16 * body.length + 2 * (boundary.length + 8) * (pieces.length + 8));
    }),
  FUZZ_TIMEOUT_MS,
);

test(
  "a damaged body is the same fields, or wrong in the same way, however it is cut",
  () =>
    fuzz(async (random) => {
      const boundary = random.text(BOUNDARY, 1 + random.size(20));
      const fields = random.list(4, () => fieldOf(random, boundary));
      const body = random.damaged(write(random, boundary, fields), `\r\n\r\n--${boundary}";=:%\\`);

      expect(await read(random.pieces(body), boundary)).toEqual(await read([body], boundary));
    }),
  FUZZ_TIMEOUT_MS,
);
