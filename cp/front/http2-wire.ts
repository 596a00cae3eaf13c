// One HTTP/2 request as a wire that speaks HTTP/1.1, so that it goes the way of all others: its head
// becomes text, its body goes in one of the two framings, and the answer is read back from text.

import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { type BodyReader, bodyReader, readPayload } from "../../proto/http1/body.ts";
import { ByteWindow } from "../../proto/http1/byte-window.ts";
import { formatHead, type Header, header, MalformedHttp } from "../../proto/http1/head.ts";
import { HeadReader } from "../../proto/http1/head-reader.ts";
import { NO_EVENTS, type Wire, type WireEvents } from "../../proto/http1/wire.ts";

/** Of late frames, then they pass at once. */
const LATE_BYTES_MAX = 16 * 1024;
/** Control characters: they could end a line, or begin another. */
const UNSAFE = /[^\t -~\x80-\xff]/;
/** Bytes of any script may be in a path, as HTTP/1.1 takes them. */
const NO_TARGET = /[^!-~\x80-\xff]/;

export class Http2Wire implements Wire {
  events: WireEvents = NO_EVENTS;
  readonly #stream: ServerHttp2Stream;
  readonly #method: string;
  readonly #headBytes = new ByteWindow();
  readonly #heads = new HeadReader();
  #body: BodyReader | null = null;
  #isClosed = false;
  /** Frames of a body that came in the same go as another: a client may send single bytes. */
  readonly #late = new ByteWindow();
  #isInGo = false;

  private constructor(stream: ServerHttp2Stream, method: string) {
    this.#stream = stream;
    this.#method = method;
  }

  /**
   * Starts the request: `serve` gets its wire first, then the wire gets its bytes. One that is none of HTTP/1.1
   * goes to `refuse` with what is wrong with it.
   */
  static open(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    to: {
      readonly serve: (wire: Http2Wire) => void;
      readonly refuse: (wire: Http2Wire, why: string) => void;
    },
  ): void {
    const method = String(headers[":method"] ?? "");
    const hasBody = !stream.endAfterHeaders;
    const wire = new Http2Wire(stream, method);
    const head = requestHead(headers, hasBody);
    if (head === null) {
      to.refuse(wire, "The request's method, path or headers are malformed");
      return;
    }
    to.serve(wire);
    wire.#follow(hasBody && headers["content-length"] === undefined);
    wire.events.onData(head);
  }

  get queuedBytes(): number {
    return this.#stream.writableLength;
  }

  write(bytes: Buffer): boolean {
    if (this.#isClosed) return true;
    try {
      return this.#body === null ? this.#readHead(bytes) : this.#readBody(bytes);
    } catch (error) {
      if (!(error instanceof MalformedHttp)) throw error;
      this.abort();
      return true;
    }
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  shutdown(): void {
    this.end();
  }

  end(): void {
    if (!this.#isClosed && !this.#stream.writableEnded) this.#stream.end();
  }

  abort(): void {
    if (this.#isClosed) return;
    // A stream that is closed with a code but without an error looks whole to the client (Bun 1.4.5).
    this.#stream.destroy(new Error("the response was cut off"));
    this.#closed();
  }

  #follow(isChunked: boolean): void {
    const stream = this.#stream;
    const pass = (bytes: Buffer) => {
      if (bytes.length > 0) this.events.onData(isChunked ? chunk(bytes) : bytes);
    };
    const passLate = () => pass(this.#late.take(this.#late.length));
    stream.on("data", (bytes: Buffer) => {
      if (this.#isInGo) this.#late.add(bytes);
      else {
        this.#isInGo = true;
        setImmediate(() => {
          this.#isInGo = false;
          passLate();
        });
        pass(bytes);
      }
      if (this.#late.length >= LATE_BYTES_MAX) passLate();
    });
    stream.on("end", () => {
      passLate();
      if (isChunked) this.events.onData(Buffer.from("0\r\n\r\n"));
    });
    stream.on("drain", () => this.events.onDrain());
    stream.on("aborted", () => this.#closed());
    stream.on("close", () => this.#closed());
  }

  #closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.events.onClose();
  }

  #readHead(bytes: Buffer): boolean {
    this.#headBytes.add(bytes);
    for (;;) {
      const head = this.#heads.takeResponse(this.#headBytes, this.#method);
      if (head === null) return true;
      // Clients of HTTP/2 need no 100; a change of protocol can't be asked for.
      if (head.status < 200) continue;
      this.#body = bodyReader(head.bodyLength);
      const headers = responseHeaders(head.status, head.headers);
      this.#stream.respond(headers, { endStream: this.#body.isDone });
      const rest = this.#headBytes.take(this.#headBytes.length);
      return this.#body.isDone ? this.#done() : this.#readBody(rest);
    }
  }

  #readBody(bytes: Buffer): boolean {
    const body = this.#body;
    if (body === null) return true;
    const { payload } = readPayload(body, bytes);
    const isTaken = payload.length === 0 || this.#stream.write(payload);
    if (!body.isDone) return isTaken;
    this.#stream.end();
    return this.#done();
  }

  /** One stream is one request. */
  #done(): true {
    this.#isClosed = true;
    queueMicrotask(() => this.events.onClose());
    return true;
  }
}

/** The head as text, null when it can't be one. */
function requestHead(headers: IncomingHttpHeaders, hasBody: boolean): Buffer | null {
  const path = String(headers[":path"] ?? "");
  const method = String(headers[":method"] ?? "");
  const authority = String(headers[":authority"] ?? headers.host ?? "");
  const lines: Header[] = [header("Host", authority)];
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(":") || name === "host" || value === undefined) continue;
    if (name === "connection" || name === "transfer-encoding" || name === "upgrade") return null;
    const values = Array.isArray(value) ? value : [value];
    // Cookies may come in pieces (RFC 9113, 8.2.3).
    if (name === "cookie") lines.push(header(name, values.join("; ")));
    else for (const one of values) lines.push(header(name, one));
  }
  if (hasBody && headers["content-length"] === undefined) {
    lines.push(header("Transfer-Encoding", "chunked"));
  }
  const isUnsafe = lines.some(({ name, value }) => UNSAFE.test(name) || UNSAFE.test(value));
  if (isUnsafe || NO_TARGET.test(path) || /[^!-~]/.test(method)) return null;
  return formatHead(`${method} ${path} HTTP/1.1`, lines);
}

function responseHeaders(status: number, lines: readonly Header[]): OutgoingHttpHeaders {
  const headers: Record<string, string | string[] | number> = { ":status": status };
  for (const { key, value } of lines) {
    if (key === "connection" || key === "transfer-encoding") continue;
    const known = headers[key];
    if (known === undefined) headers[key] = value;
    else headers[key] = Array.isArray(known) ? [...known, value] : [String(known), value];
  }
  return headers;
}

function chunk(bytes: Buffer): Buffer {
  const size = Buffer.from(`${bytes.length.toString(16)}\r\n`);
  return Buffer.concat([size, bytes, Buffer.from("\r\n")]);
}
