// Reading multipart/form-data (RFC 7578) as it arrives: `request.formData()` holds all of it, and a
// copy, before the first byte can go anywhere.

import { AppError } from "../errors.ts";

/** Headers of one part: a disposition and a type. */
const PART_HEADER_BYTES_MAX = 8192;
/** RFC 2046, 5.1.1. */
const BOUNDARY_LENGTH_MAX = 70;
const CRLF = "\r\n";

export interface Part {
  /** Field name; empty when the part has none. */
  readonly name: string;
  /** Read it to its end before asking for the next part. */
  readonly content: AsyncIterable<Uint8Array>;
}

/**
 * The parts in the order of the body, each only while it is the current one; what is left of a part
 * is skipped. Throws `invalid_request` when the body is no such thing or ends too early.
 */
export async function* readMultipart(
  body: AsyncIterable<Uint8Array>,
  contentType: string,
): AsyncGenerator<Part> {
  const input = new Input(body);
  const delimiter = `${CRLF}--${boundaryOf(contentType)}`;
  // The first delimiter may start the body; with a line end put before it there is one case only.
  input.unshift(Buffer.from(CRLF, "latin1"));
  for await (const _preamble of input.until(delimiter));
  while (await isFollowedByPart(input)) {
    const name = fieldName(await readHeaders(input));
    const content = input.until(delimiter);
    yield { name, content };
    for await (const _rest of content);
  }
}

/** After a delimiter: a line end and a part, or two dashes and the end. */
async function isFollowedByPart(input: Input): Promise<boolean> {
  const mark = await input.take(2);
  if (mark === "--") return false;
  if (mark !== CRLF) throw malformed("a boundary is not followed by a line end");
  return true;
}

async function readHeaders(input: Input): Promise<string> {
  // A part without headers has the empty line at once.
  input.unshift(Buffer.from(CRLF, "latin1"));
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of input.until(CRLF + CRLF)) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > PART_HEADER_BYTES_MAX) throw malformed("headers of a part are too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function fieldName(headers: string): string {
  const disposition = /^content-disposition:[ \t]*form-data\b(.*)$/im.exec(headers)?.[1] ?? "";
  const found = /;[ \t]*name=(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))/i.exec(disposition);
  return (found?.[1] ?? found?.[2] ?? "").replaceAll(/\\(.)/g, "$1");
}

function boundaryOf(contentType: string): string {
  const isMultipart = /^multipart\/form-data\s*;/i.test(contentType);
  const found = /;\s*boundary=(?:"([^"]+)"|([^\s;]+))/i.exec(contentType);
  const boundary = found?.[1] ?? found?.[2] ?? "";
  if (!isMultipart || boundary === "" || boundary.length > BOUNDARY_LENGTH_MAX) {
    throw malformed("the body must be multipart/form-data with a boundary");
  }
  return boundary;
}

/** A byte stream that is read up to a mark, holding never more than a chunk and a mark. */
class Input {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #buffer: Buffer = Buffer.alloc(0);

  constructor(body: AsyncIterable<Uint8Array>) {
    this.#chunks = body[Symbol.asyncIterator]();
  }

  /** The bytes up to the mark, which is consumed too. Read again after the end it yields none. */
  async *until(mark: string): AsyncGenerator<Uint8Array> {
    const needle = Buffer.from(mark, "latin1");
    for (;;) {
      const at = this.#buffer.indexOf(needle);
      const ready = at === -1 ? this.#buffer.byteLength - needle.byteLength + 1 : at;
      if (ready > 0) {
        const bytes = this.#buffer.subarray(0, ready);
        this.#buffer = this.#buffer.subarray(ready);
        yield bytes;
      }
      if (at !== -1) {
        this.#buffer = this.#buffer.subarray(needle.byteLength);
        return;
      }
      await this.#more();
    }
  }

  async take(lengthBytes: number): Promise<string> {
    while (this.#buffer.byteLength < lengthBytes) await this.#more();
    const taken = this.#buffer.subarray(0, lengthBytes).toString("latin1");
    this.#buffer = this.#buffer.subarray(lengthBytes);
    return taken;
  }

  unshift(bytes: Buffer): void {
    this.#buffer = Buffer.concat([bytes, this.#buffer]);
  }

  async #more(): Promise<void> {
    const next = await this.#chunks.next();
    if (next.done === true) throw malformed("the multipart body ends too early");
    this.#buffer = Buffer.concat([this.#buffer, next.value]);
  }
}

function malformed(message: string): AppError {
  return new AppError("invalid_request", message);
}
