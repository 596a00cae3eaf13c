// A streaming parser of multipart/form-data (RFC 7578): bodies never pile up in memory.
import { EnvdError } from "../errors.ts";
import { MULTIPART_BOUNDARY_BYTES_MAX, MULTIPART_HEADER_BYTES_MAX } from "../limits.ts";

/** One part. Its body must be read to the end before the next part is asked for. */
export interface Part {
  readonly name: string;
  /** As sent, directories included; null when the part is no file. */
  readonly fileName: string | null;
  readonly body: AsyncIterable<Uint8Array>;
}

/** The boundary of a multipart/form-data content type; invalid_argument when there is none. */
export function boundaryOf(contentType: string): string {
  const match = contentType.match(/;\s*boundary=(?:"([^"]+)"|([^\s;"]+))/i);
  const boundary = match?.[1] ?? match?.[2];
  if (boundary === undefined || Buffer.byteLength(boundary) > MULTIPART_BOUNDARY_BYTES_MAX) {
    throw malformed("the content type has no valid boundary");
  }
  return boundary;
}

/** The parts in their order. invalid_argument for a malformed or cut-off body. */
export async function* partsOf(
  body: AsyncIterable<Uint8Array>,
  boundary: string,
): AsyncGenerator<Part> {
  const window = new Window(body);
  // The first delimiter may lack the line break that belongs to all others.
  window.prepend(Buffer.from("\r\n"));
  const delimiter = Buffer.from(`\r\n--${boundary}`);
  for await (const _preamble of window.until(delimiter)) {
    // RFC 2046: what comes before the first delimiter is ignored.
  }
  while (await hasPart(window)) {
    const headers = await window.takeThrough(Buffer.from("\r\n\r\n"), MULTIPART_HEADER_BYTES_MAX);
    const part = { ...partHead(headers), body: window.until(delimiter) };
    yield part;
    for await (const _rest of part.body) {
      // A part that nobody wanted is passed over.
    }
  }
}

/** After a delimiter: a line break means another part, two dashes mean the end. */
async function hasPart(window: Window): Promise<boolean> {
  const line = await window.takeThrough(Buffer.from("\r\n"), 64, { orEnd: true });
  const text = line.toString("latin1").trimEnd();
  if (text === "") return true;
  if (text.startsWith("--")) return false;
  throw malformed("a delimiter is followed by other text");
}

function partHead(headers: Buffer): { name: string; fileName: string | null } {
  for (const line of headers.toString("utf8").split("\r\n")) {
    const match = line.match(/^content-disposition:\s*form-data\s*(;.*)$/i);
    if (match?.[1] === undefined) continue;
    const parameters = parametersOf(match[1]);
    return {
      name: parameters.get("name") ?? "",
      fileName: parameters.get("filename*") ?? parameters.get("filename") ?? null,
    };
  }
  throw malformed("a part has no content disposition");
}

/** `;name="value"` pairs. Browsers escape quotes as %22; others with a backslash. */
function parametersOf(text: string): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const match of text.matchAll(/;\s*([\w!#$&+.^`|~*-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))/g)) {
    const [, name = "", quoted, plain = ""] = match;
    const value = quoted === undefined ? plain : unquote(quoted);
    const key = name.toLowerCase();
    parameters.set(key, key.endsWith("*") ? decodeExtended(value) : value);
  }
  return parameters;
}

function unquote(text: string): string {
  return text
    .replace(/\\(["\\])/g, "$1")
    .replaceAll("%22", '"')
    .replaceAll("%0D%0A", "\r\n");
}

/** RFC 5987: charset'language'percent-encoded. */
function decodeExtended(text: string): string {
  const encoded = text.match(/^utf-8'[^']*'(.*)$/i)?.[1];
  if (encoded === undefined) throw malformed("a file name has an unknown character set");
  try {
    return decodeURIComponent(encoded);
  } catch (error) {
    throw malformed("a file name is badly encoded", error);
  }
}

/** The bytes that have come and are not used, at most one chunk and a delimiter's length. */
class Window {
  readonly #source: AsyncIterator<Uint8Array>;
  #bytes: Buffer = Buffer.alloc(0);
  #isEnded = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  prepend(bytes: Buffer): void {
    this.#bytes = Buffer.concat([bytes, this.#bytes]);
  }

  /** Everything before the delimiter, piece by piece; the delimiter is used up too. */
  until(delimiter: Buffer): AsyncIterableIterator<Uint8Array> {
    let isDone = false;
    const next = async (): Promise<IteratorResult<Uint8Array>> => {
      while (!isDone) {
        const at = this.#bytes.indexOf(delimiter);
        if (at >= 0) isDone = true;
        const safe = at >= 0 ? at : this.#bytes.length - delimiter.length + 1;
        if (safe > 0 || isDone) {
          const piece = this.#take(Math.max(safe, 0));
          if (isDone) this.#take(delimiter.length);
          if (piece.length > 0) return { done: false, value: piece };
        } else {
          await this.#fill();
        }
      }
      return { done: true, value: undefined };
    };
    return { next, [Symbol.asyncIterator]: () => ({ next }) as AsyncIterableIterator<Uint8Array> };
  }

  /** Everything up to and with the mark, or, when that is allowed, up to the end of the body. */
  async takeThrough(
    mark: Buffer,
    bytesMax: number,
    options: { orEnd: boolean } = { orEnd: false },
  ): Promise<Buffer> {
    for (;;) {
      const at = this.#bytes.indexOf(mark);
      if (at > bytesMax || (at < 0 && this.#bytes.length > bytesMax)) {
        throw malformed(`a part's head is longer than ${bytesMax} bytes`);
      }
      if (at >= 0) return this.#take(at + mark.length);
      if (options.orEnd && this.#isEnded) return this.#take(this.#bytes.length);
      await this.#fill({ orEnd: options.orEnd });
    }
  }

  #take(count: number): Buffer {
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  async #fill(options: { orEnd: boolean } = { orEnd: false }): Promise<void> {
    const { value, done } = await this.#source.next();
    if (done) {
      this.#isEnded = true;
      if (!options.orEnd) throw malformed("the body ends before its last delimiter");
      return;
    }
    this.#bytes =
      this.#bytes.length === 0 ? Buffer.from(value) : Buffer.concat([this.#bytes, value]);
  }
}

function malformed(why: string, cause?: unknown): EnvdError {
  return new EnvdError("invalid_argument", `multipart body: ${why}`, { cause });
}
