// The client's side of a proxied connection: reads one request after the other, has each routed, and
// hands it to an exchange. Whatever is not yet wanted stays with the sender.

import { STATUS_CODES } from "node:http";
import { TimeSlice } from "../time-slice.ts";
import { ByteWindow } from "./byte-window.ts";
import { Exchange } from "./exchange.ts";
import { formatHead, type Header, header, MalformedHttp, type RequestHead } from "./head.ts";
import { HeadReader } from "./head-reader.ts";
import type { IdleClock, Ticking } from "./idle-clock.ts";
import { ServedExchange } from "./served-exchange.ts";
import {
  type Answer,
  type Answered,
  type Forward,
  isForward,
  isServe,
  type Peer,
  type Refuse,
  type Router,
  type Routing,
} from "./verdict.ts";
import type { Wire, WireEvents } from "./wire.ts";

/** After an answer that came before the request's end, for the client to read it. */
const LINGER_MS = 2_000;
/** Of what came too early: the next requests, and a body that nobody reads yet. */
const EARLY_BYTES_MAX = 256 * 1024;

/** Some clients send an empty line after a body. */
const EMPTY_LINES_MAX = 8;
const CRLF = Buffer.from("\r\n");

/** After which time without progress a connection ends. */
export interface Silences {
  /** Before anything of a first request has come. */
  readonly firstRequestMs: number;
  /** From the first byte of a request's head to its last. */
  readonly headMs: number;
  /** Between two requests; proxies behind keep their connections longer, so that the client's end first. */
  readonly keptAliveMs: number;
  /** A client that takes nothing of what it gets, or sends nothing of what it has announced. */
  readonly stalledMs: number;
}

export interface ServerOptions {
  readonly router: Router;
  readonly clock: IdleClock;
  readonly silences: Silences;
  /** Makes the answers to what no router is asked about, and to what one failed with. */
  readonly refuse: Refuse;
  readonly answered?: Answered | undefined;
  /** Told of what a router threw. */
  readonly failed: (error: unknown) => void;
  /** Told of a connection's end. */
  readonly closed?: (connection: ServerConnection) => void;
}

type State = "head" | "routing" | "exchange" | "linger" | "closed";

export class ServerConnection implements WireEvents, Ticking {
  readonly wire: Wire;
  readonly clock: IdleClock;
  readonly #options: ServerOptions;
  readonly #peer: Peer;
  #state: State = "head";
  readonly #early = new ByteWindow();
  readonly #heads = new HeadReader();
  #emptyLines = 0;
  /** Of answering what came at once. */
  #slice = new TimeSlice();
  #request: RequestHead | null = null;
  #exchange: Exchange | ServedExchange | null = null;
  #movedAt: number;
  #isReading = false;
  #isBehind = false;
  #hadRequest = false;
  /** The connection ends after the request under way. */
  #isLast = false;

  constructor(wire: Wire, peer: Peer, options: ServerOptions) {
    this.wire = wire;
    this.clock = options.clock;
    this.#options = options;
    this.#peer = peer;
    this.#movedAt = options.clock.nowMs;
    options.clock.add(this);
    wire.events = this;
  }

  /** The client does not take what it gets; until it does, it gets nothing and nothing of it is read. */
  get isBehind(): boolean {
    return this.#isBehind;
  }

  /** What the client sent too early, and what it does not take. */
  get heldBytes(): number {
    return this.#early.length + this.wire.queuedBytes;
  }

  get silences(): Silences {
    return this.#options.silences;
  }

  /** A request is under way; a tunnel is none. */
  get isBusy(): boolean {
    if (this.#state === "exchange") return this.#exchange?.isTunnel !== true;
    return this.#state === "routing" || this.#state === "linger";
  }

  onData(bytes: Buffer): void {
    if (this.#state === "exchange") this.#exchange?.onRequestBytes(bytes);
    else if (this.#state === "head" || this.#state === "routing") {
      this.keepEarly(bytes);
      this.#slice = new TimeSlice();
      if (this.#state === "head") this.#readHeads();
    }
  }

  onDrain(): void {
    this.#isBehind = false;
    this.#movedAt = this.clock.nowMs;
    if (this.#state === "exchange") this.#exchange?.onClientDrain();
    else if (this.#state === "head") this.#readHeads();
  }

  /** A client that closed its side waits for nothing: few send a request and then only listen. */
  onEnd(): void {
    if (this.#exchange?.isTunnel) this.#exchange.onClientEnd();
    else this.abort();
  }

  onClose(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.clock.remove(this);
    this.#exchange?.onClientClose();
    this.#exchange = null;
    this.takeEarly();
    this.#options.closed?.(this);
  }

  tick(nowMs: number): void {
    if (this.#state === "exchange") this.#exchange?.tick(nowMs);
    else if (this.#state === "linger" && nowMs - this.#movedAt > LINGER_MS) this.abort();
    else if (this.#state === "head" && nowMs - this.#movedAt > this.#silenceMs()) {
      // A client that goes on must not take what comes then for lost.
      if (this.#isBehind) this.abort();
      else this.#linger();
    }
  }

  /** Between requests. */
  #silenceMs(): number {
    const { firstRequestMs, headMs, keptAliveMs, stalledMs } = this.silences;
    if (this.#isBehind) return stalledMs;
    if (this.#early.length > 0) return headMs;
    return this.#hadRequest ? keptAliveMs : firstRequestMs;
  }

  /** As of a wire. Whoever gets false waits for the client. */
  write(bytes: Buffer): boolean {
    if (this.wire.write(bytes)) return true;
    if (!this.#isBehind) this.#movedAt = this.clock.nowMs;
    this.#isBehind = true;
    return false;
  }

  /** Takes bytes that nobody can use yet, and stops the sender when they are many. */
  keepEarly(bytes: Buffer): void {
    if (bytes.length === 0) return;
    if (this.#early.length === 0 && this.#state === "head") this.#movedAt = this.clock.nowMs;
    this.#early.add(bytes);
    if (this.#early.length > EARLY_BYTES_MAX) this.wire.pause();
  }

  /** Takes back what was taken of a body, so that it comes again before the rest. */
  unread(bytes: Buffer): void {
    if (bytes.length > 0) this.#early.putBack(bytes);
  }

  /** Forwards the request under way to another place, with what was read of its body. */
  forwardAgain(forward: Forward, body: Buffer): void {
    const request = this.#request;
    this.unread(body);
    if (request === null) forward.lease?.[Symbol.dispose]();
    else this.#follow(request, forward);
  }

  takeEarly(): Buffer {
    return this.#early.take(this.#early.length);
  }

  /** Answers the request under way, of whose body nothing is passed on any more. */
  answer(answer: Answer): void {
    const request = this.#request;
    if (request === null) return;
    this.#options.answered?.(answer, request);
    if (this.#state === "closed") return;
    const isWhole = request.bodyLength === 0;
    if (!isWhole) this.#isLast = true;
    const body = Buffer.from(answer.body);
    const headers: Header[] = [...answer.headers, header("Content-Length", String(body.length))];
    if (!this.keepsAlive(request)) headers.push(header("Connection", "close"));
    const start = `HTTP/1.1 ${answer.status} ${reasonOf(answer.status)}`;
    const head = formatHead(start, headers);
    this.write(request.method === "HEAD" ? head : Buffer.concat([head, body]));
    this.requestDone();
  }

  keepsAlive(request: RequestHead): boolean {
    return request.isKeptAlive && !this.#isLast;
  }

  /** The next request may come, unless this was the last one. */
  requestDone(): void {
    if (this.#state === "closed") return;
    const request = this.#request;
    this.#exchange = null;
    this.#request = null;
    if (request === null || !this.keepsAlive(request)) {
      this.#linger();
      return;
    }
    this.#state = "head";
    this.#movedAt = this.clock.nowMs;
    this.#readHeads();
  }

  /** Ends with the request under way, or the next one. */
  closeAfterRequest(): void {
    this.#isLast = true;
  }

  /** Ends the connection so that the client cannot take what it got for the whole. */
  abort(): void {
    this.wire.abort();
    this.onClose();
  }

  /**
   * A loop: of requests that are answered at once, thousands may lie there. A client that does not read
   * its answers gets no more of them.
   */
  #readHeads(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    while (this.#mayReadHead() && !this.#slice.isOver) {
      const request = this.#readHead();
      if (request === null) break;
      this.#route(request);
    }
    this.#isReading = false;
    if (this.#state !== "head" || this.#isBehind) return;
    if (this.#early.length > 0 && this.#slice.isOver) this.#readHeadsLater();
    else this.wire.resume();
  }

  #mayReadHead(): boolean {
    return this.#state === "head" && !this.#isBehind && this.#early.length > 0;
  }

  /** Once the event loop has gone round. */
  #readHeadsLater(): void {
    this.#isReading = true;
    setImmediate(() => {
      this.#isReading = false;
      this.#slice = new TimeSlice();
      this.#readHeads();
    });
  }

  /** Null when it is not whole yet, or malformed, which ends the connection. */
  #readHead(): RequestHead | null {
    try {
      while (this.#early.startsWith(CRLF)) {
        if (++this.#emptyLines > EMPTY_LINES_MAX) {
          throw new MalformedHttp("There are too many empty lines before the request");
        }
        this.#early.take(CRLF.length);
      }
      const head = this.#heads.takeRequest(this.#early);
      if (head !== null) this.#emptyLines = 0;
      return head;
    } catch (error) {
      if (!(error instanceof MalformedHttp)) throw error;
      this.refuse(400, error.message);
      return null;
    }
  }

  #route(request: RequestHead): void {
    this.#request = request;
    this.#hadRequest = true;
    this.#state = "routing";
    let routing: Routing | Promise<Routing>;
    try {
      routing = this.#options.router(request, this.#peer);
    } catch (error) {
      this.fail(error);
      return;
    }
    if (routing instanceof Promise) {
      routing.then(
        (settled) => this.#follow(request, settled),
        (error) => this.fail(error),
      );
    } else this.#follow(request, routing);
  }

  /** What a router threw is for the log. */
  fail(error: unknown): void {
    this.#options.failed(error);
    this.answer(this.#options.refuse(500, "internal error", this.#request));
  }

  #follow(request: RequestHead, routing: Routing): void {
    if (!isForward(routing) && !isServe(routing)) this.answer(routing);
    else if (this.#state === "closed") routing.lease?.[Symbol.dispose]();
    else {
      this.#state = "exchange";
      this.#exchange = isServe(routing)
        ? new ServedExchange(this, request, routing)
        : new Exchange(this, request, routing);
      this.#exchange.start();
    }
  }

  /** Answers, whatever was asked, and ends the connection. */
  refuse(status: number, why: string): void {
    const answer = this.#options.refuse(status, why, null);
    this.#options.answered?.(answer, null);
    const body = Buffer.from(answer.body);
    const headers = [
      ...answer.headers,
      header("Content-Length", String(body.length)),
      header("Connection", "close"),
    ];
    const head = formatHead(`HTTP/1.1 ${answer.status} ${reasonOf(answer.status)}`, headers);
    this.write(Buffer.concat([head, body]));
    this.#linger();
  }

  /**
   * Says that nothing more comes, and reads on for a moment: closing with unread bytes makes the kernel
   * send a reset, which may overtake the answer.
   */
  #linger(): void {
    this.#state = "linger";
    this.takeEarly();
    this.#movedAt = this.clock.nowMs;
    this.wire.shutdown();
    this.wire.resume();
  }
}

function reasonOf(status: number): string {
  return STATUS_CODES[status] ?? "Unknown";
}
