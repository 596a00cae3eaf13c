// The application behind the front.

import { header, type RequestHead } from "../../proto/http1/head.ts";
import { endToEnd } from "../../proto/http1/hop.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import type { Forward, Peer } from "../../proto/http1/verdict.ts";
import { forwardedHeaders, withoutForwarded } from "../proxy/forwarded.ts";

const CONNECTIONS_MAX = 20_000;
const IDLE_CONNECTIONS_MAX = 1_000;
const IDLE_MS = 60_000;
const DIAL_TIMEOUT_MS = 5_000;

export class ApiUpstream {
  readonly #pool: UpstreamPool;

  /** The application listens on that unix socket. */
  constructor(unix: string) {
    this.#pool = new UpstreamPool({
      address: { unix },
      idleMax: IDLE_CONNECTIONS_MAX,
      idleMs: IDLE_MS,
      connectionsMax: CONNECTIONS_MAX,
      retryAfterMs: [],
      dialTimeoutMs: DIAL_TIMEOUT_MS,
      isFickle: false,
    });
  }

  forward(request: RequestHead, peer: Peer): Forward {
    const headers = withoutForwarded(endToEnd(request.headers)).filter(({ key }) => key !== "host");
    return {
      pool: this.#pool,
      target: request.target,
      headers: [
        header("Host", request.authority || "localhost"),
        ...headers,
        ...forwardedHeaders(request, peer),
      ],
      // Routes have limits of their own.
      idleTimeoutMs: null,
      respond: (head) => endToEnd(head.headers),
      explain: () => ({ status: 503, headers: [], body: "" }),
    };
  }

  sweep(): void {
    this.#pool.sweep();
  }
}
