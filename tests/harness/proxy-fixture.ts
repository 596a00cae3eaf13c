// A front before a server of the test's own, torn down with it.

import type { Socket } from "node:net";
import { frontLimits } from "../../cp/front/limits.ts";
import { endToEnd } from "../../proto/http1/hop.ts";
import { Front, type FrontLimits } from "../../proto/http1/listener.ts";
import { type UpstreamAddress, UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import type { Answer, Forward, Router } from "../../proto/http1/verdict.ts";
import { type RawServer, rawServer } from "./raw-http.ts";
import { AGENT_NAME, AGENT_TLS, CONTROL_PLANE } from "./test-certificates.ts";

export interface FrontOptions {
  readonly isFickle?: boolean;
  readonly idleTimeoutMs?: number;
  readonly retryAfterMs?: readonly number[];
  readonly limits?: Partial<FrontLimits>;
  /** The port of a server that requests go to when the first answers 503. */
  readonly movedTo?: number;
}

export class ProxyFixture implements AsyncDisposable {
  readonly #resources = new AsyncDisposableStack();
  readonly #isSecured: boolean;
  #pool: UpstreamPool | null = null;
  #front: Front | null = null;
  /** Requests that are not over. */
  leases = 0;

  /** `isSecured`: requests go over TLS to a second front before the server, as they go to an agent. */
  constructor(isSecured = false) {
    this.#isSecured = isSecured;
  }

  /** Of the front that was made last. */
  get heldBytes(): number {
    return this.#front?.heldBytes ?? 0;
  }

  get pool(): UpstreamPool {
    if (this.#pool === null) throw new Error("there is no front yet");
    return this.#pool;
  }

  /** A front before the server; returns the front's port. */
  frontOf(upstreamPort: number, more: FrontOptions = {}): number {
    return this.frontWith(this.routerTo(upstreamPort, more), more.limits);
  }

  /** Sends each request to the server. */
  routerTo(upstreamPort: number, more: FrontOptions = {}): Router {
    const pool = this.#poolOf(upstreamPort, more);
    this.#pool = pool;
    const moved = more.movedTo === undefined ? null : this.#poolOf(more.movedTo, more);
    return (request) => {
      const forward = (to: UpstreamPool): Forward => {
        this.leases += 1;
        return {
          pool: to,
          target: request.target,
          headers: endToEnd(request.headers),
          idleTimeoutMs: more.idleTimeoutMs ?? null,
          lease: { [Symbol.dispose]: () => this.leases-- },
          respond: (head, isKept) => {
            if (head.status !== 503 || moved === null) return endToEnd(head.headers);
            return Promise.resolve(isKept ? forward(moved) : answer("moved"));
          },
          explain: (failure) => answer(failure),
        };
      };
      return forward(pool);
    };
  }

  /** A front with a router of the test's own; returns its port. */
  frontWith(
    router: Router,
    limits: Partial<FrontLimits> = {},
    isForwarder: (address: string) => boolean = () => false,
  ): number {
    const front = this.#resources.use(
      new Front({
        limits: { ...frontLimits(4096), ...limits },
        failed: (error) => {
          throw error;
        },
        router,
        isForwarder,
      }),
    );
    this.#front = front;
    return front.listen({ hostname: "127.0.0.1", port: 0 });
  }

  #poolOf(port: number, more: FrontOptions): UpstreamPool {
    const hostname = "127.0.0.1";
    if (!this.#isSecured) return this.#poolTo({ hostname, port }, more);
    const tls = { identity: CONTROL_PLANE.current, serverName: AGENT_NAME };
    return this.#poolTo({ hostname, port: this.#agentOf(port), tls }, more);
  }

  #agentOf(port: number): number {
    const pool = this.#poolTo({ hostname: "127.0.0.1", port }, {});
    const router: Router = (request) => ({
      pool,
      target: request.target,
      headers: endToEnd(request.headers),
      idleTimeoutMs: null,
      respond: (head) => endToEnd(head.headers),
      explain: (failure) => answer(failure),
    });
    const failed = (error: unknown) => {
      throw error;
    };
    const limits = frontLimits(4096);
    const front = this.#resources.use(new Front({ limits, failed, router }));
    return front.listen({ hostname: "127.0.0.1", port: 0, tls: AGENT_TLS });
  }

  #poolTo(address: UpstreamAddress, { isFickle, retryAfterMs }: FrontOptions): UpstreamPool {
    const pool = new UpstreamPool({
      address,
      idleMax: 8,
      idleMs: 5_000,
      connectionsMax: 16,
      retryAfterMs: retryAfterMs ?? [50],
      dialTimeoutMs: 1_000,
      isFickle: isFickle ?? false,
    });
    return this.#resources.adopt(pool, (pool) => pool.close());
  }

  async server(serve: (socket: Socket, text: string) => void): Promise<RawServer> {
    return this.#resources.use(await rawServer(serve));
  }

  bunServer(fetch: (request: Request) => Response | Promise<Response>): number {
    const server = this.#resources.adopt(
      Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch }),
      (server) => server.stop(true),
    );
    return server.port ?? 0;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }
}

function answer(body: string): Answer {
  return { status: 502, headers: [], body };
}

/** A GET as text. */
export function get(path = "/", ...lines: string[]): string {
  return [`GET ${path} HTTP/1.1`, "Host: x", ...lines, "", ""].join("\r\n");
}
