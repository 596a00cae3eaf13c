// Connections to the agents' proxies, one pool per agent.

import type { TlsIdentity } from "../../proto/http1/tls.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import type { AgentOfHost } from "../agents/agent-clients.ts";

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
  readonly #identity: () => TlsIdentity;

  /** `identity` is what agents are shown. */
  constructor(identity: () => TlsIdentity) {
    this.#identity = identity;
  }

  /** The connections to the agent. */
  at({ address, certName }: Pick<AgentOfHost, "address" | "certName">): UpstreamPool {
    const key = `${address} ${certName}`;
    const known = this.#pools.get(key);
    if (known !== undefined) return known;

    if (this.#pools.size >= AGENTS_MAX) this.#dropUnused();
    const colon = address.lastIndexOf(":");
    const hostname = address.slice(0, colon).replace(/^\[|\]$/g, "");
    const pool = new UpstreamPool({
      address: {
        ...{ hostname, port: Number(address.slice(colon + 1)) },
        tls: { identity: this.#identity, serverName: certName },
      },
      idleMax: IDLE_CONNECTIONS_MAX,
      idleMs: IDLE_MS,
      connectionsMax: CONNECTIONS_PER_AGENT_MAX,
      retryAfterMs: DIAL_RETRY_AFTER_MS,
      dialTimeoutMs: DIAL_TIMEOUT_MS,
      isFickle: false,
    });
    this.#pools.set(key, pool);
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
    for (const [key, pool] of this.#pools) if (pool.size === 0) this.#pools.delete(key);
  }
}
