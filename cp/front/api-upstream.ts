// The application behind the front.

import { header, type RequestHead } from "../../proto/http1/head.ts";
import { endToEnd } from "../../proto/http1/hop.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import type { Forward, Peer } from "../../proto/http1/verdict.ts";
import type { TrustedProxies } from "../client-address.ts";
import { forwardedClient, forwardedHeaders, withoutForwarded } from "../proxy/forwarded.ts";

const IDLE_CONNECTIONS_MAX = 1_000;
const IDLE_MS = 60_000;
const DIAL_TIMEOUT_MS = 5_000;

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

  forward(request: RequestHead, peer: Peer): Forward {
    const headers = withoutForwarded(endToEnd(request.headers)).filter(({ key }) => key !== "host");
    const client = forwardedClient(request, peer, this.#proxies);
    const forwarded = forwardedHeaders(request, peer, this.#proxies);
    return {
      pool: this.#pool,
      target: request.target,
      headers: [
        header("Host", request.authority || "localhost"),
        ...headers,
        // The application counts by the last address.
        ...forwarded.map((line) =>
          line.key === "x-forwarded-for" && client !== null ? { ...line, value: client } : line,
        ),
      ],
      // Routes have limits of their own.
      idleTimeoutMs: null,
      respond: (head) => endToEnd(head.headers),
      explain: (failure) => ({ status: failure === "silent" ? 408 : 503, headers: [], body: "" }),
    };
  }

  sweep(): void {
    this.#pool.sweep();
  }
}
