// What becomes of a request: it is answered here, forwarded, or served by this process.

import type { Header, RequestHead, ResponseHead } from "./head.ts";
import type { UpstreamPool } from "./upstream-pool.ts";

/** Where a request came from. */
export interface Peer {
  readonly address: string;
  readonly scheme: "http" | "https";
}

/** A small answer of the proxy itself. */
export interface Answer {
  readonly status: number;
  readonly headers: readonly Header[];
  readonly body: string;
  /** What it says is wrong, for logs. */
  readonly why?: string;
}

/**
 * refused: nobody listens; busy: too many connections; ended: the pool was closed; broken: it ended
 * without an answer, or the answer was none of HTTP; silent: nothing came for too long.
 */
export type ForwardFailure = "refused" | "busy" | "ended" | "broken" | "silent";

export interface Forward {
  readonly pool: UpstreamPool;
  /** The request as the server gets it; the framing of the body stays the client's. */
  readonly target: string;
  readonly headers: readonly Header[];
  /** Cut off when nothing moves for so long; null: never. */
  readonly idleTimeoutMs: number | null;
  /** Held until the exchange is over. */
  readonly lease?: Disposable;
  /**
   * The final response's headers for the client, without those that concern one connection. A verdict
   * takes the response's place; it may forward the request again if that `isKept`, still whole, and the
   * response tells that no server has acted on it.
   */
  readonly respond: (head: ResponseHead, isKept: boolean) => readonly Header[] | Promise<Verdict>;
  /** What happens without a response. A request that `isKept` may be forwarded again if none was sent. */
  readonly explain: (failure: ForwardFailure, isKept: boolean) => Answer | Promise<Verdict>;
}

export type Verdict = Forward | Answer;

/** What is answered when nothing came of a request: null when it could not be read, or was not. */
export type Refuse = (status: number, why: string, request: RequestHead | null) => Answer;

/** Told of each answer that is no server's. The request is null where it could not be read, or was not. */
export type Answered = (answer: Answer, request: RequestHead | null) => void;

/** Only for a request by HTTP/1.1 that has no body and changes no protocol. */
export interface Serve {
  /** The signal aborts when the client goes away. What it throws is told as what a router throws. */
  readonly serve: (gone: AbortSignal) => Promise<Response>;
  /** Held until the exchange is over. */
  readonly lease?: Disposable;
}

export type Routing = Verdict | Serve;

/** Decides on one request. What it throws is answered 500. */
export type Router = (request: RequestHead, peer: Peer) => Routing | Promise<Routing>;

export function isForward(routing: Routing): routing is Forward {
  return "pool" in routing;
}

export function isServe(routing: Routing): routing is Serve {
  return "serve" in routing;
}
