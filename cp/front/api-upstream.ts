// The application behind the front.

import {
  type Header,
  header,
  headerOf,
  type RequestHead,
  type ResponseHead,
} from "../../proto/http1/head.ts";
import { endToEnd } from "../../proto/http1/hop.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import type { Answer, ForwardFailure, Peer, Verdict } from "../../proto/http1/verdict.ts";
import type { TrustedProxies } from "../client-address.ts";
import { forwardedClient, forwardedHeaders, withoutForwarded } from "../proxy/forwarded.ts";
import { REQUEST_ID_HEADER as REQUEST_ID, requestIdOf } from "../request-id.ts";
import { refuseRequest } from "./refusals.ts";

const IDLE_CONNECTIONS_MAX = 1_000;
const IDLE_MS = 60_000;
const DIAL_TIMEOUT_MS = 5_000;

/** What the application's server knows; with another method it ends the connection. */
const METHODS = new Set([
  ...["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
  ...["OPTIONS", "TRACE", "CONNECT"],
]);

export class ApiUpstream {
  readonly #pool: UpstreamPool;
  readonly #proxies: TrustedProxies;

  /** The application listens on that unix socket, and takes so many connections. */
  constructor(options: { unix: string; connectionsMax: number; proxies: TrustedProxies }) {
    const { unix, connectionsMax, proxies } = options;
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
  forward(request: RequestHead, peer: Peer): Verdict {
    const { method, target, authority } = request;
    if (!METHODS.has(method)) return refuseRequest(404, `no such route: ${method}`, request);
    if (target === "*") return refuseRequest(400, "No path is named", request);
    if (!URL.canParse(`http://${authority || "localhost"}`)) {
      return refuseRequest(400, "The Host header is malformed", request);
    }
    const own = headerOf(request.headers, REQUEST_ID.toLowerCase());
    const requestId = header(REQUEST_ID, requestIdOf(own));
    const kept = request.headers.filter(({ key }) => key !== requestId.key);
    const named: RequestHead = { ...request, headers: [...kept, requestId] };
    const client = forwardedClient(request, peer, this.#proxies);
    const forwarded = forwardedHeaders(request, peer, this.#proxies);
    return {
      pool: this.#pool,
      target,
      headers: [
        header("Host", authority || "localhost"),
        ...withoutForwarded(endToEnd(named.headers)).filter(({ key }) => key !== "host"),
        // The application counts by the last address.
        ...forwarded.map((line) =>
          line.key === "x-forwarded-for" && client !== null ? { ...line, value: client } : line,
        ),
      ],
      // Routes have limits of their own.
      idleTimeoutMs: null,
      respond: (head) => answered(head, named, requestId),
      explain: (failure) => refuseRequest(...FAILURES[failure], named),
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
