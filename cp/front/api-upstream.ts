// The application behind the front: asked as a function where that is all a request needs, else over a
// socket, where bodies have a flow and WebSockets begin. The socket costs a request more than half as much
// again as everything else about it.

import {
  type Header,
  header,
  headerOf,
  type RequestHead,
  type ResponseHead,
} from "../../proto/http1/head.ts";
import { endToEnd } from "../../proto/http1/hop.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import type {
  Answer,
  Forward,
  ForwardFailure,
  Peer,
  Routing,
  Serve,
} from "../../proto/http1/verdict.ts";
import type { TrustedProxies } from "../client-address.ts";
import { forwardedClient, forwardedHeaders, withoutForwarded } from "../proxy/forwarded.ts";
import { REQUEST_ID_HEADER as REQUEST_ID, requestIdOf } from "../request-id.ts";
import { refuseRequest } from "./refusals.ts";

const IDLE_CONNECTIONS_MAX = 1_000;
const IDLE_MS = 60_000;
const DIAL_TIMEOUT_MS = 5_000;
/** Larger heads are for the application's server, whose bounds they may exceed. */
const PLAIN_HEAD_CHARS_MAX = 8 * 1024;
const PLAIN_HEADERS_MAX = 64;
/** What other bytes mean in an address is for that server, too. */
const ASCII = /^[!-~]*$/;

/** What the application's server knows; with another method it ends the connection. */
const METHODS = new Set([
  ...["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
  ...["OPTIONS", "TRACE", "CONNECT"],
]);

export interface ApiUpstreamOptions {
  /** The application listens there, and takes so many connections. */
  readonly unix: string;
  readonly connectionsMax: number;
  /** The same application. */
  readonly fetch: (request: Request) => Response | Promise<Response>;
  readonly proxies: TrustedProxies;
}

export class ApiUpstream {
  readonly #pool: UpstreamPool;
  readonly #fetch: ApiUpstreamOptions["fetch"];
  readonly #proxies: TrustedProxies;

  constructor({ unix, connectionsMax, fetch, proxies }: ApiUpstreamOptions) {
    this.#fetch = fetch;
    this.#proxies = proxies;
    this.#pool = new UpstreamPool({
      address: { unix },
      idleMax: IDLE_CONNECTIONS_MAX,
      idleMs: IDLE_MS,
      connectionsMax,
      retryAfterMs: [],
      dialTimeoutMs: DIAL_TIMEOUT_MS,
      isFickle: false,
    });
  }

  /** To the application, unless that could not read it: then the answer says why. */
  route(request: RequestHead, peer: Peer): Routing {
    const { method, target } = request;
    if (!METHODS.has(method)) return refuseRequest(404, `no such route: ${method}`, request);
    if (target === "*") return refuseRequest(400, "No path is named", request);
    const authority = request.authority || "localhost";
    if (!URL.canParse(`http://${authority}`)) {
      return refuseRequest(400, "The Host header is malformed", request);
    }
    const own = headerOf(request.headers, REQUEST_ID.toLowerCase());
    const requestId = header(REQUEST_ID, requestIdOf(own));
    const kept = request.headers.filter(({ key }) => key !== requestId.key);
    const named: RequestHead = { ...request, authority, headers: [...kept, requestId] };
    const headers = this.#headers(named, peer);
    return isPlainRead(named)
      ? this.#ask(named, headers)
      : this.#forward(named, requestId, headers);
  }

  /** What the application gets. */
  #headers(request: RequestHead, peer: Peer): Header[] {
    const client = forwardedClient(request, peer, this.#proxies);
    const forwarded = forwardedHeaders(request, peer, this.#proxies);
    return [
      header("Host", request.authority),
      ...withoutForwarded(endToEnd(request.headers)).filter(({ key }) => key !== "host"),
      // The application counts by the last address.
      ...forwarded.map((line) =>
        line.key === "x-forwarded-for" && client !== null ? { ...line, value: client } : line,
      ),
    ];
  }

  #ask({ authority, target }: RequestHead, headers: readonly Header[]): Serve {
    const pairs = headers.map(({ name, value }): [string, string] => [name, value]);
    const url = `http://${authority}${target}`;
    return { serve: async (signal) => this.#fetch(new Request(url, { headers: pairs, signal })) };
  }

  #forward(request: RequestHead, requestId: Header, headers: readonly Header[]): Forward {
    return {
      ...{ pool: this.#pool, target: request.target, headers },
      // Routes have limits of their own.
      idleTimeoutMs: null,
      respond: (head) => answered(head, request, requestId),
      explain: (failure) => refuseRequest(...FAILURES[failure], request),
    };
  }

  sweep(): void {
    this.#pool.sweep();
  }
}

/** A client that sends nothing of what it announced is the only one that is silent. */
const SILENT: Failure = [408, "the rest of the request did not come"];
const AWAY: Failure = [503, "the service is temporarily unavailable: try again"];

type Failure = readonly [status: number, message: string];

const FAILURES: Readonly<Record<ForwardFailure, Failure>> = {
  silent: SILENT,
  refused: AWAY,
  busy: AWAY,
  ended: AWAY,
  broken: AWAY,
};

const REFUSED: Readonly<Partial<Record<number, string>>> = {
  413: "The body of the request is too large",
  431: "The head of the request is too large",
};

/** What the application answers it names; what does not is an upgrade, or of the server that it runs in. */
function answered(
  head: ResponseHead,
  request: RequestHead,
  requestId: Header,
): readonly Header[] | Promise<Answer> {
  const headers = endToEnd(head.headers);
  if (headers.some(({ key }) => key === requestId.key)) return headers;
  if (head.status < 400) return [...headers, requestId];
  const message = REFUSED[head.status] ?? "The request is not valid HTTP";
  return Promise.resolve(refuseRequest(head.status, message, request));
}

/** A small request that nothing belongs to but its head. */
function isPlainRead({
  method,
  minor,
  bodyLength,
  upgrade,
  target,
  headers,
}: RequestHead): boolean {
  if (method !== "GET" || minor === 0 || bodyLength !== 0 || upgrade !== null) return false;
  if (headers.length > PLAIN_HEADERS_MAX || !ASCII.test(target)) return false;
  const chars = headers.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
  return chars + target.length <= PLAIN_HEAD_CHARS_MAX;
}
