// One request and its response through one connection to the server, or the tunnel that it became. Each
// side is read no faster than the other takes what it gets, so a body of any size costs a few buffers.

import { type BodyReader, bodyReader, readPayload } from "./body.ts";
import {
  formatHead,
  type Header,
  header,
  MalformedHttp,
  type RequestHead,
  type ResponseHead,
} from "./head.ts";
import { endToEnd } from "./hop.ts";
import { SentBody } from "./sent-body.ts";
import type { ServerConnection } from "./server-connection.ts";
import type { DialFailure, Upstream } from "./upstream-pool.ts";
import { type Forward, type ForwardFailure, isForward, type Verdict } from "./verdict.ts";
import type { WireEvents } from "./wire.ts";

/** A tunnel whose one side has ended waits so long for the other. */
const HALF_OPEN_MS = 60_000;
/** Answers such as 100 and 103 before the one that counts. */
const INTERIMS_MAX = 16;
const LAST_CHUNK = Buffer.from("0\r\n\r\n");
const CRLF = Buffer.from("\r\n");
/** Requests that may reach the server twice (RFC 9110, 9.2.2). */
const REPEATABLE = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]);

/** How the response's body goes to the client. */
type Transfer = "as-is" | "into-chunks" | "out-of-chunks";

export class Exchange implements WireEvents {
  readonly #client: ServerConnection;
  readonly #request: RequestHead;
  readonly #forward: Forward;
  readonly #sent = new SentBody();
  #requestBody: BodyReader;
  #upstream: Upstream | null = null;
  #response: ResponseHead | null = null;
  #responseBody: BodyReader | null = null;
  #transfer: Transfer = "as-is";
  #interims = 0;
  #movedAt: number;
  #state: "dialling" | "open" | "tunnel" | "half-open" | "over" = "dialling";

  constructor(client: ServerConnection, request: RequestHead, forward: Forward) {
    this.#client = client;
    this.#request = request;
    this.#forward = forward;
    this.#requestBody = bodyReader(request.bodyLength);
    this.#movedAt = client.clock.nowMs;
  }

  get isTunnel(): boolean {
    return this.#state === "tunnel" || this.#state === "half-open";
  }

  start(): void {
    const { pool } = this.#forward;
    const { method, bodyLength } = this.#request;
    const mayReuse = !pool.options.isFickle || (REPEATABLE.has(method) && bodyLength === 0);
    const idle = mayReuse && this.#request.upgrade === null ? pool.take() : null;
    if (idle !== null) this.#send(idle);
    else this.#dial();
  }

  tick(nowMs: number): void {
    // Dialling has its own limit.
    if (this.#state === "dialling" || nowMs - this.#movedAt <= this.#silenceMs()) return;
    this.#fail("silent");
  }

  #silenceMs(): number {
    if (this.#state === "half-open") return HALF_OPEN_MS;
    const idleTimeoutMs = this.#forward.idleTimeoutMs ?? Number.POSITIVE_INFINITY;
    // However long the server may think: the client has something to do.
    const isClientsTurn = this.#client.isBehind || !this.#requestBody.isDone;
    return isClientsTurn ? Math.min(idleTimeoutMs, this.#client.silences.stalledMs) : idleTimeoutMs;
  }

  // The client's side.

  onRequestBytes(bytes: Buffer): void {
    this.#movedAt = this.#client.clock.nowMs;
    const upstream = this.#upstream;
    if (this.isTunnel) {
      if (upstream !== null && !upstream.wire.write(bytes)) this.#client.wire.pause();
      return;
    }
    // A request that wants another protocol has no body, but what follows is of that protocol.
    if (upstream === null || this.#requestBody.isDone) {
      this.#client.keepEarly(bytes);
      return;
    }
    const body = this.#takeRequestBody(bytes);
    if (body !== null && !upstream.wire.write(body)) this.#client.wire.pause();
  }

  /** What the server gets of these bytes; null: they are malformed, and nothing more may reach it. */
  #takeRequestBody(bytes: Buffer): Buffer | null {
    let end: number;
    try {
      end = this.#requestBody.read(bytes);
    } catch (error) {
      if (!(error instanceof MalformedHttp)) throw error;
      const isUnanswered = this.#response === null;
      this.#end("drop");
      if (isUnanswered) this.#client.refuse(400, error.message);
      else this.#client.abort();
      return null;
    }
    const body = end === bytes.length ? bytes : bytes.subarray(0, end);
    if (this.#response === null) this.#sent.add(body);
    if (end < bytes.length) this.#client.keepEarly(bytes.subarray(end));
    return body;
  }

  onClientDrain(): void {
    this.#movedAt = this.#client.clock.nowMs;
    this.#upstream?.wire.resume();
  }

  onClientEnd(): void {
    this.#endSide(() => this.#upstream?.wire.shutdown());
  }

  onClientClose(): void {
    this.#end("drop");
  }

  // The server's side.

  onData(bytes: Buffer): void {
    this.#movedAt = this.#client.clock.nowMs;
    try {
      if (this.isTunnel) this.#toClient(bytes);
      else if (this.#response === null) this.#readHeads(bytes);
      else this.#readBody(bytes);
    } catch (error) {
      if (!(error instanceof MalformedHttp)) throw error;
      this.#fail("broken");
    }
  }

  onDrain(): void {
    this.#client.wire.resume();
  }

  onEnd(): void {
    if (this.isTunnel) this.#endSide(() => this.#client.wire.shutdown());
    else if (this.#response?.bodyLength === "until-close") this.#finish();
    else this.onClose();
  }

  onClose(): void {
    if (this.#state === "over") return;
    if (this.isTunnel) {
      this.#end("drop");
      this.#client.wire.end();
      return;
    }
    const upstream = this.#upstream;
    const isUntouched = this.#response === null && upstream?.received.length === 0;
    const mayRepeat = REPEATABLE.has(this.#request.method) && this.#sent.isWhole;
    if (upstream?.isUsed && isUntouched && mayRepeat) {
      // It was most likely closed while it was idle, but the server may have seen the request.
      this.#forward.pool.drop(upstream);
      this.#upstream = null;
      this.#requestBody = bodyReader(this.#request.bodyLength);
      this.#client.unread(this.#sent.take());
      this.#dial();
    } else this.#fail("broken");
  }

  /** An answer that has begun, and what became of the connection else, goes on when the server does. */
  onStandstill(): void {
    if (this.#state === "open" && this.#response === null) this.#fail("silent");
  }

  #dial(): void {
    this.#state = "dialling";
    void this.#forward.pool.dial().then((outcome) => {
      if (typeof outcome === "string") this.#fail(failureOf(outcome));
      else if (this.#state === "over") this.#forward.pool.drop(outcome);
      else this.#send(outcome);
    });
  }

  #send(upstream: Upstream): void {
    const { method, upgrade, bodyLength } = this.#request;
    this.#upstream = upstream;
    this.#state = "open";
    this.#movedAt = this.#client.clock.nowMs;
    upstream.wire.events = this;
    const more: Header[] = [];
    if (bodyLength === "chunked") more.push(header("Transfer-Encoding", "chunked"));
    if (upgrade !== null) more.push(header("Connection", "Upgrade"), header("Upgrade", upgrade));
    const { target, headers } = this.#forward;
    const start = `${method} ${target} HTTP/1.1`;
    if (this.#requestBody.isDone) {
      upstream.wire.write(formatHead(start, headers, { more }));
      return;
    }
    const early = this.#client.takeEarly();
    this.#client.wire.resume();
    const body = this.#takeRequestBody(early);
    if (body === null) return;
    if (!upstream.wire.write(formatHead(start, headers, { more, body }))) this.#client.wire.pause();
  }

  #readHeads(bytes: Buffer): void {
    const upstream = this.#upstream;
    if (upstream === null) return;
    const { received, heads } = upstream;
    received.add(bytes);
    for (;;) {
      const head = heads.takeResponse(received, this.#request.method);
      if (head === null) return;
      if (head.status < 200 && head.status !== 101) this.#interim(head);
      else {
        const rest = received.take(received.length);
        if (head.status === 101) this.#openTunnel(head, rest);
        else this.#takeResponse(head, rest);
        return;
      }
    }
  }

  /** 100 and 103 are the client's business, if it knows them. */
  #interim(head: ResponseHead): void {
    if (++this.#interims > INTERIMS_MAX) throw new MalformedHttp("it never answers");
    if (this.#request.minor === 0) return;
    this.#toClient(formatHead(`HTTP/1.1 ${head.status} ${head.reason}`, endToEnd(head.headers)));
  }

  #openTunnel(head: ResponseHead, rest: Buffer): void {
    if (this.#request.upgrade === null) throw new MalformedHttp("unasked change of protocol");
    const headers = this.#forward.respond(head, false);
    if (headers instanceof Promise) throw new MalformedHttp("it is no answer");
    const upgrade = head.headers.filter(({ key }) => key === "upgrade");
    this.#client.write(
      formatHead("HTTP/1.1 101 Switching Protocols", [
        ...headers,
        header("Connection", "Upgrade"),
        ...upgrade,
      ]),
    );
    this.#state = "tunnel";
    this.#response = head;
    if (rest.length > 0) this.#toClient(rest);
    const early = this.#client.takeEarly();
    this.#client.wire.resume();
    if (early.length > 0) this.onRequestBytes(early);
  }

  #takeResponse(head: ResponseHead, rest: Buffer): void {
    this.#response = head;
    const headers = this.#forward.respond(head, this.#sent.isWhole);
    if (headers instanceof Promise) {
      this.#replace(headers);
      return;
    }
    this.#sent.forget();
    const { minor } = this.#request;
    this.#responseBody = bodyReader(head.bodyLength);
    this.#transfer = transferOf(head, minor);
    const isChunkedBody = head.bodyLength === "chunked";
    const more: Header[] = [];
    if (isChunkedBody || this.#transfer === "into-chunks") {
      if (minor === 1) more.push(header("Transfer-Encoding", "chunked"));
    }
    if (!this.#keepsClient()) more.push(header("Connection", "close"));
    // The length is in the chunks, whatever Content-Length says.
    const lines = isChunkedBody ? headers.filter(({ key }) => key !== "content-length") : headers;
    const { body, end } = this.#takeBody(rest);
    this.#toClient(formatHead(`HTTP/1.1 ${head.status} ${head.reason}`, lines, { more, body }));
    this.#endBody(end < rest.length);
  }

  #readBody(bytes: Buffer): void {
    const { body, end } = this.#takeBody(bytes);
    if (body.length > 0) this.#toClient(body);
    this.#endBody(end < bytes.length);
  }

  /** What the client gets for these bytes, and where the response ends in them. */
  #takeBody(bytes: Buffer): { body: Buffer; end: number } {
    const reader = this.#responseBody;
    if (reader === null) throw new Error("unreachable: the response has begun");
    if (this.#transfer === "as-is") {
      const end = reader.read(bytes);
      return { body: end === bytes.length ? bytes : bytes.subarray(0, end), end };
    }
    const { payload, end } = readPayload(reader, bytes);
    return { body: payload.length === 0 ? payload : this.#framed(payload), end };
  }

  /** Bytes after the response's end: the server is out of step. */
  #endBody(isOutOfStep: boolean): void {
    if (this.#responseBody?.isDone) this.#finish(isOutOfStep);
  }

  #framed(payload: Buffer): Buffer {
    if (this.#transfer === "out-of-chunks") return payload;
    return Buffer.concat([Buffer.from(`${payload.length.toString(16)}\r\n`), payload, CRLF]);
  }

  #toClient(bytes: Buffer): void {
    if (!this.#client.write(bytes)) this.#upstream?.wire.pause();
  }

  /** The response has ended, maybe before the request. */
  #finish(isOutOfStep = false): void {
    if (this.#transfer === "into-chunks") this.#client.write(LAST_CHUNK);
    const isClean = this.#requestBody.isDone && !isOutOfStep;
    this.#end(isClean && this.#response?.isKeptAlive ? "release" : "drop");
    if (!this.#requestBody.isDone || this.#mustClose()) this.#client.closeAfterRequest();
    this.#client.requestDone();
  }

  /** A body that HTTP/1.0 gets without its chunks ends with the connection. */
  #mustClose(): boolean {
    return this.#transfer !== "into-chunks" && this.#response?.bodyLength === "until-close";
  }

  #keepsClient(): boolean {
    return this.#client.keepsAlive(this.#request) && this.#requestBody.isDone && !this.#mustClose();
  }

  #replace(verdict: Promise<Verdict>): void {
    this.#end("drop");
    verdict.then(
      (settled) => {
        if (isForward(settled)) this.#client.forwardAgain(settled, this.#sent.take());
        else this.#client.answer(settled);
      },
      (error) => this.#client.fail(error),
    );
  }

  #endSide(tell: () => void): void {
    if (this.#state === "half-open") {
      this.#end("drop");
      this.#client.wire.end();
      return;
    }
    this.#state = "half-open";
    tell();
  }

  #fail(failure: ForwardFailure): void {
    if (this.#state === "over") return;
    const hasBegun = this.#response !== null;
    const reason = this.#forward.pool.isClosed ? "ended" : failure;
    this.#end("drop");
    if (hasBegun) {
      this.#client.abort();
      return;
    }
    const answer = this.#forward.explain(reason, this.#sent.isWhole);
    if (answer instanceof Promise) this.#replace(answer);
    else this.#client.answer(answer);
  }

  #end(fate: "release" | "drop"): void {
    if (this.#state === "over") return;
    this.#state = "over";
    const upstream = this.#upstream;
    this.#upstream = null;
    if (upstream !== null) this.#forward.pool[fate](upstream);
    this.#forward.lease?.[Symbol.dispose]();
  }
}

function transferOf(head: ResponseHead, clientMinor: 0 | 1): Transfer {
  if (head.bodyLength === "until-close" && clientMinor === 1) return "into-chunks";
  if (head.bodyLength === "chunked" && clientMinor === 0) return "out-of-chunks";
  return "as-is";
}

function failureOf(outcome: DialFailure): ForwardFailure {
  return outcome === "closed" ? "ended" : outcome;
}
