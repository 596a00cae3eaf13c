// One request that a server of this very process answers, instead of one behind a connection.

import { STATUS_CODES } from "node:http";
import { TimeSlice } from "../time-slice.ts";
import { formatHead, type Header, header, type RequestHead } from "./head.ts";
import { endToEnd } from "./hop.ts";
import type { IdleClock } from "./idle-clock.ts";
import type { Serve } from "./verdict.ts";

const CRLF = Buffer.from("\r\n");
const LAST_CHUNK = Buffer.from("0\r\n\r\n");
/** Of a body that is there: up to so much of it goes out in one piece. */
const READY_BYTES_MAX = 256 * 1024;
const WITHOUT_BODY = new Set([204, 304]);

/** The connection that the request came by. */
export interface ServedClient {
  readonly clock: Pick<IdleClock, "nowMs">;
  readonly silences: { readonly stalledMs: number };
  /** It does not take what it gets. */
  readonly isBehind: boolean;
  write(bytes: Buffer): boolean;
  keepEarly(bytes: Buffer): void;
  keepsAlive(request: RequestHead): boolean;
  requestDone(): void;
  fail(error: unknown): void;
  abort(): void;
}

/** Of a request without a body, by HTTP/1.1. The answer goes out no faster than the client takes it. */
export class ServedExchange {
  readonly isTunnel = false;
  readonly #client: ServedClient;
  readonly #request: RequestHead;
  readonly #verdict: Serve;
  /** Tells whoever serves that the client has gone. */
  readonly #gone = new AbortController();
  #body: Body | null = null;
  #movedAt: number;
  #drained: (() => void) | null = null;
  #isOver = false;

  constructor(client: ServedClient, request: RequestHead, verdict: Serve) {
    this.#client = client;
    this.#request = request;
    this.#verdict = verdict;
    this.#movedAt = client.clock.nowMs;
  }

  start(): void {
    void this.#serve();
  }

  /** However long the server may think: only the client's silence counts. */
  tick(nowMs: number): void {
    const { isBehind, silences } = this.#client;
    if (isBehind && nowMs - this.#movedAt > silences.stalledMs) this.#client.abort();
  }

  /** What comes before the answer is the next request. */
  onRequestBytes(bytes: Buffer): void {
    this.#client.keepEarly(bytes);
  }

  onClientDrain(): void {
    this.#movedAt = this.#client.clock.nowMs;
    this.#drained?.();
  }

  onClientEnd(): void {}

  onClientClose(): void {
    this.#end();
    this.#gone.abort();
    this.#body?.cancel();
    this.#drained?.();
  }

  async #serve(): Promise<void> {
    let response: Response;
    try {
      response = await this.#verdict.serve(this.#gone.signal);
    } catch (error) {
      this.#fail(error);
      return;
    }
    const body = new Body(response);
    this.#body = body;
    try {
      await this.#answer(response, body);
    } catch {
      // Whoever makes the body has told of it; the client must not take what it got for the whole.
      this.#client.abort();
    }
    if (this.#isOver) body.cancel();
    else this.#done();
  }

  /** Of a body that is there already the length is told; another one goes out in chunks. */
  async #answer(response: Response, body: Body): Promise<void> {
    const { bytes, isAll } = await body.ready();
    if (isAll) {
      this.#write(this.#head(response, bytes.length), bytes);
      return;
    }
    this.#write(this.#head(response, "chunked"));
    const slice = new TimeSlice();
    for (let piece: Buffer | null = bytes; piece !== null && !this.#isOver; ) {
      await slice.step();
      this.#write(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, CRLF);
      await this.#untilTaken();
      piece = await body.next();
    }
    this.#write(LAST_CHUNK);
  }

  #write(...pieces: Buffer[]): void {
    if (!this.#isOver) this.#client.write(Buffer.concat(pieces));
  }

  async #untilTaken(): Promise<void> {
    if (this.#isOver || !this.#client.isBehind) return;
    this.#movedAt = this.#client.clock.nowMs;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#drained = resolve;
    await promise;
    this.#drained = null;
  }

  #head({ status, headers }: Response, length: number | "chunked"): Buffer {
    const out: Header[] = [];
    headers.forEach((value, name) => {
      if (name !== "content-length") out.push(header(name, value));
    });
    const kept = [...endToEnd(out)];
    if (length === "chunked") kept.push(header("Transfer-Encoding", "chunked"));
    else if (!WITHOUT_BODY.has(status)) kept.push(header("Content-Length", String(length)));
    kept.push(header("Date", date()));
    if (!this.#client.keepsAlive(this.#request)) kept.push(header("Connection", "close"));
    return formatHead(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`, kept);
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this.#end();
    this.#client.fail(error);
  }

  #done(): void {
    this.#end();
    this.#client.requestDone();
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#verdict.lease?.[Symbol.dispose]();
  }
}

/** What a response has as its body, piece by piece. */
class Body {
  readonly #reader: Pick<ReadableStreamDefaultReader<Uint8Array>, "read" | "cancel"> | null;
  /** Read ahead. */
  #following: Promise<Buffer | null> | null = null;

  constructor(response: Response) {
    this.#reader = response.body?.getReader() ?? null;
  }

  /** Null: there is no more. */
  async next(): Promise<Buffer | null> {
    const following = this.#following ?? this.#read();
    this.#following = null;
    return await following;
  }

  /** Waits for the first piece and takes with it what is there, up to a bound; whether that is all. */
  async ready(): Promise<{ bytes: Buffer; isAll: boolean }> {
    const pieces: Buffer[] = [];
    for (let bytes = 0; bytes < READY_BYTES_MAX; ) {
      const piece = await this.next();
      if (piece === null) return { bytes: Buffer.concat(pieces), isAll: true };
      pieces.push(piece);
      bytes += piece.length;
      if (!(await this.#hasNext())) break;
    }
    return { bytes: Buffer.concat(pieces), isAll: false };
  }

  /** Whether what comes next, a piece or the end, is known without waiting. */
  async #hasNext(): Promise<boolean> {
    const following = this.#read();
    this.#following = following;
    // Whoever asks for it hears of its failure.
    following.catch(() => {});
    await null;
    return Bun.peek.status(following) === "fulfilled";
  }

  cancel(): void {
    this.#reader?.cancel().catch(() => {});
  }

  /** An empty piece is none: in chunks it would be the end. */
  async #read(): Promise<Buffer | null> {
    for (;;) {
      const read = await this.#reader?.read();
      if (read === undefined || read.done) return null;
      const { buffer, byteOffset, byteLength } = read.value;
      if (byteLength > 0) return Buffer.from(buffer, byteOffset, byteLength);
    }
  }
}

let written = { second: 0, text: "" };

/** For the Date header (RFC 9110, 6.6.1), made once a second. */
function date(): string {
  const second = Math.floor(Date.now() / 1000);
  if (second !== written.second) written = { second, text: new Date().toUTCString() };
  return written.text;
}
