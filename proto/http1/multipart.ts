// Reading multipart/form-data (RFC 7578) as it arrives: `request.formData()` holds all of it, and a
// copy, before the first byte can go anywhere.
//
// Whoever sends it may cut it anywhere and into as many parts as they like. So the time is linear in the
// bytes that came, however they are cut, parts and their heads have bounds, and everybody else has their
// turn in between.

import { TimeSlice } from "../time-slice.ts";
import { ByteWindow } from "./byte-window.ts";

/** RFC 2046, 5.1.1. */
const MULTIPART_BOUNDARY_BYTES_MAX = 70;
/** The head of one part, a disposition and a type; browsers send under 1 KiB. */
const MULTIPART_HEADER_BYTES_MAX = 16 * 1024;
const MULTIPART_HEADERS_MAX = 16;

/** After a delimiter there may be blanks (RFC 2046, 5.1.1). */
const PADDING_BYTES_MAX = 64;
/** Looked through at once. */
const PIECE_BYTES = 64 * 1024;
/** `;name=value`, the value plain or quoted. */
const PARAMETER = /\s*;\s*([\w!#$&+.^`|~*-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))/y;
const DISPOSITION = /^content-disposition:\s*form-data(?=\s*(?:;|$))/i;
const MEDIA_TYPE = /^\s*multipart\/form-data(?=\s*(?:;|$))/i;

const EMPTY = Buffer.alloc(0);
const CRLF = Buffer.from("\r\n");

export interface MultipartOptions {
  /** Parts of one body, those that nobody reads included. */
  readonly partsMax: number;
  /** Makes the error for a body that is none; the text is one sentence that a client may see. */
  readonly malformed: (why: string, cause?: unknown) => Error;
}

export interface Part {
  /** Of the field; empty when the part names none. */
  readonly name: string;
  /** As sent, directories included; null when the part is no file. */
  readonly fileName: string | null;
  /** Read it to its end before asking for the next part. */
  readonly content: AsyncIterable<Uint8Array>;
}

/**
 * The parts in the order of the body, each only while it is the current one; what is left of a part is
 * skipped. A piece of content is a window on memory of the reader's, to be copied by whoever keeps it.
 * Throws what `malformed` makes when the body breaks the format or a bound, or ends too early, which may
 * come out behind the last part only: whoever keeps one waits for the end of all of them.
 */
export async function* readMultipart(
  body: AsyncIterable<Uint8Array>,
  contentType: string,
  options: MultipartOptions,
): AsyncGenerator<Part> {
  const { partsMax, malformed } = options;
  const delimiter = Buffer.from(`\r\n--${boundaryOf(contentType, malformed)}`);
  const input = new Input(body, malformed);
  // The first delimiter may start the body; with a line end put before it there is one case only.
  input.prepend(CRLF);
  for await (const _preamble of input.until(delimiter));
  for (let parts = 0; await isFollowedByPart(input, malformed); parts++) {
    if (parts === partsMax) throw malformed(`there are more than ${partsMax} parts`);
    const { name, fileName } = parseHead(await readHead(input, malformed), malformed);
    const content = input.until(delimiter);
    yield { name, fileName, content };
    for await (const _rest of content);
  }
  // What its sender's protocol says about the body's end comes after that, too.
  await input.skipRest();
}

/** After a delimiter: a line end and a part, or two dashes and the end. */
async function isFollowedByPart(input: Input, malformed: Malformed): Promise<boolean> {
  if ((await input.peek(2)) === "--") return false;
  const padding = await input.line(PADDING_BYTES_MAX);
  if (padding === null || !/^[ \t]*$/.test(padding.toString("latin1"))) {
    throw malformed("a delimiter is followed by other text");
  }
  return true;
}

/** The lines up to the empty one. */
async function readHead(input: Input, malformed: Malformed): Promise<string[]> {
  const lines: string[] = [];
  let leftBytes = MULTIPART_HEADER_BYTES_MAX;
  for (;;) {
    const line = await input.line(leftBytes);
    if (line === null) {
      throw malformed(`a part's head is longer than ${MULTIPART_HEADER_BYTES_MAX} bytes`);
    }
    if (line.length === 0) return lines;
    leftBytes -= line.length + CRLF.length;
    if (lines.push(line.toString("utf8")) > MULTIPART_HEADERS_MAX) {
      throw malformed(`a part has more than ${MULTIPART_HEADERS_MAX} headers`);
    }
  }
}

function parseHead(lines: readonly string[], malformed: Malformed): Omit<Part, "content"> {
  for (const line of lines) {
    const kind = DISPOSITION.exec(line)?.[0];
    if (kind === undefined) continue;
    const parameters = parametersOf(line.slice(kind.length), malformed);
    const extended = parameters.get("filename*");
    const plain = parameters.get("filename");
    const fileName = extended === undefined ? plain : decodeExtended(extended, malformed);
    return {
      name: withoutEscapes(parameters.get("name") ?? ""),
      fileName: fileName === undefined ? null : withoutEscapes(fileName),
    };
  }
  throw malformed("a part has no content disposition");
}

function boundaryOf(contentType: string, malformed: Malformed): string {
  const type = MEDIA_TYPE.exec(contentType)?.[0];
  if (type === undefined) throw malformed("the content type must be multipart/form-data");
  const boundary = parametersOf(contentType.slice(type.length), malformed).get("boundary") ?? "";
  if (boundary === "" || Buffer.byteLength(boundary) > MULTIPART_BOUNDARY_BYTES_MAX) {
    throw malformed("the content type has no valid boundary");
  }
  return boundary;
}

/** By their names in lower case. One after the other from the start: no text is looked at twice. */
function parametersOf(text: string, malformed: Malformed): Map<string, string> {
  const parameters = new Map<string, string>();
  PARAMETER.lastIndex = 0;
  let end = 0;
  for (let match = PARAMETER.exec(text); match !== null; match = PARAMETER.exec(text)) {
    const [, name = "", quoted, plain = ""] = match;
    const key = name.toLowerCase();
    if (parameters.has(key)) throw malformed(`${key} is given twice`);
    parameters.set(key, quoted === undefined ? plain : quoted.replace(/\\(["\\])/g, "$1"));
    end = PARAMETER.lastIndex;
  }
  if (!/^[\s;]*$/.test(text.slice(end))) throw malformed("a parameter is malformed");
  return parameters;
}

/** Browsers escape what would end the quotes (WHATWG, multipart/form-data encoding algorithm). */
function withoutEscapes(text: string): string {
  return text.replaceAll("%22", '"').replaceAll("%0D%0A", "\r\n");
}

/** RFC 5987: charset'language'percent-encoded. */
function decodeExtended(text: string, malformed: Malformed): string {
  const encoded = /^utf-8'[^']*'(.*)$/i.exec(text)?.[1];
  if (encoded === undefined) throw malformed("a file name has an unknown character set");
  try {
    return decodeURIComponent(encoded);
  } catch (error) {
    throw malformed("a file name is badly encoded", error);
  }
}

type Malformed = MultipartOptions["malformed"];

/** A byte stream that is read up to a mark: it holds a piece, and what is not known to be no mark. */
class Input {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #malformed: Malformed;
  readonly #slice = new TimeSlice();
  /** What came and was not looked at. */
  #chunk: Buffer = EMPTY;
  readonly #window = new ByteWindow();

  constructor(source: AsyncIterable<Uint8Array>, malformed: Malformed) {
    this.#source = source[Symbol.asyncIterator]();
    this.#malformed = malformed;
  }

  /** Before anything was read. */
  prepend(bytes: Buffer): void {
    this.#window.add(bytes);
  }

  /** The bytes up to the mark, which is consumed too. Read again after the end it yields none. */
  until(mark: Buffer): AsyncIterableIterator<Uint8Array> {
    const window = this.#window;
    let isDone = false;
    const next = async (): Promise<IteratorResult<Uint8Array>> => {
      while (!isDone) {
        const at = window.indexOf(mark);
        isDone = at >= 0;
        const piece = window.take(isDone ? at : Math.max(0, window.length - mark.length + 1));
        if (isDone) window.take(mark.length);
        if (piece.length > 0) return { done: false, value: piece };
        if (!isDone) await this.#fill();
      }
      return { done: true, value: undefined };
    };
    const iterator: AsyncIterableIterator<Uint8Array> = {
      next,
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  /** A line without its end; null when it is longer. */
  async line(bytesMax: number): Promise<Buffer | null> {
    const window = this.#window;
    for (let seen = 0; ; ) {
      const at = window.indexOf(CRLF, seen);
      if (at > bytesMax || (at < 0 && window.length > bytesMax + 1)) return null;
      if (at >= 0) return window.take(at + CRLF.length).subarray(0, at);
      seen = Math.max(0, window.length - 1);
      await this.#fill();
    }
  }

  async peek(bytes: number): Promise<string> {
    while (this.#window.length < bytes) await this.#fill();
    return this.#window.peek(bytes).toString("latin1");
  }

  /** Up to the end of the source, which fails when the source was cut off. */
  async skipRest(): Promise<void> {
    for (;;) {
      await this.#slice.step();
      if ((await this.#source.next()).done === true) return;
    }
  }

  async #fill(): Promise<void> {
    await this.#slice.step();
    while (this.#chunk.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) {
        throw this.#malformed("the body ends before its last delimiter");
      }
      const { buffer, byteOffset, byteLength } = next.value;
      this.#chunk = Buffer.from(buffer, byteOffset, byteLength);
    }
    this.#window.add(this.#chunk.subarray(0, PIECE_BYTES));
    this.#chunk = this.#chunk.subarray(PIECE_BYTES);
  }
}
