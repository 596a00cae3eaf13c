// Connections to the agents' proxies, one pool per address.

import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";

const AGENTS_MAX = 1_000;
const IDLE_CONNECTIONS_MAX = 256;
/** Below the agent's own, so that this side ends an idle connection first. */
const IDLE_MS = 60_000;
const CONNECTIONS_PER_AGENT_MAX = 10_000;
const DIAL_TIMEOUT_MS = 10_000;
/** An agent that is replaced listens again within a second or two. */
const DIAL_RETRY_AFTER_MS = [50, 100, 200, 400, 500, 750] as const;

export class AgentPools {
  readonly #pools = new Map<string, UpstreamPool>();

  /** The connections to the agent at `ip:port`. */
  at(address: string): UpstreamPool {
    const known = this.#pools.get(address);
    if (known !== undefined) return known;

    if (this.#pools.size >= AGENTS_MAX) this.#dropUnused();
    const colon = address.lastIndexOf(":");
    const hostname = address.slice(0, colon).replace(/^\[|\]$/g, "");
    const pool = new UpstreamPool({
      address: { hostname, port: Number(address.slice(colon + 1)) },
      idleMax: IDLE_CONNECTIONS_MAX,
      idleMs: IDLE_MS,
      connectionsMax: CONNECTIONS_PER_AGENT_MAX,
      retryAfterMs: DIAL_RETRY_AFTER_MS,
      dialTimeoutMs: DIAL_TIMEOUT_MS,
      isFickle: false,
    });
    this.#pools.set(address, pool);
    return pool;
  }

  sweep(): void {
    for (const pool of this.#pools.values()) pool.sweep();
  }

  close(): void {
    for (const pool of this.#pools.values()) pool.close();
    this.#pools.clear();
  }

  #dropUnused(): void {
    for (const [address, pool] of this.#pools) if (pool.size === 0) this.#pools.delete(address);
  }
}
