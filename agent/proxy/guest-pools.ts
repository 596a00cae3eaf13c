// Connections to the ports of guests. They belong to the life of a guest and end with it: the next
// capsule may get the same address.

import { ENVD_PORT } from "../../proto/envd-routes.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import type { Guest } from "../guest/guest.ts";
import {
  PROXY_CONNECTIONS_PER_PORT_MAX,
  PROXY_DIAL_RETRY_AFTER_MS,
  PROXY_DIAL_TIMEOUT_MS,
  PROXY_IDLE_CONNECTIONS_MAX,
  PROXY_IDLE_MS,
  PROXY_PORTS_PER_GUEST_MAX,
} from "../limits.ts";

export class GuestPools {
  readonly #guests = new Map<Guest, Map<number, UpstreamPool>>();

  /** The connections to one port of the guest. */
  of(guest: Guest, port: number): UpstreamPool {
    const ports = this.#guests.get(guest) ?? this.#meet(guest);
    const known = ports.get(port);
    if (known !== undefined) return known;

    if (ports.size >= PROXY_PORTS_PER_GUEST_MAX) dropUnused(ports);
    const pool = new UpstreamPool({
      address: { hostname: guest.hostIp, port },
      idleMax: PROXY_IDLE_CONNECTIONS_MAX,
      idleMs: PROXY_IDLE_MS,
      connectionsMax: PROXY_CONNECTIONS_PER_PORT_MAX,
      retryAfterMs: PROXY_DIAL_RETRY_AFTER_MS,
      dialTimeoutMs: PROXY_DIAL_TIMEOUT_MS,
      // envd is ours and keeps its connections; any other server may close one at any time.
      isFickle: port !== ENVD_PORT,
    });
    ports.set(port, pool);
    return pool;
  }

  sweep(): void {
    for (const ports of this.#guests.values()) {
      for (const pool of ports.values()) pool.sweep();
    }
  }

  close(): void {
    for (const guest of [...this.#guests.keys()]) this.#forget(guest);
  }

  #meet(guest: Guest): Map<number, UpstreamPool> {
    const ports = new Map<number, UpstreamPool>();
    this.#guests.set(guest, ports);
    guest.closed.addEventListener("abort", () => this.#forget(guest), { once: true });
    guest.onCutOff(() => {
      for (const pool of ports.values()) pool.standStill();
    });
    return ports;
  }

  #forget(guest: Guest): void {
    for (const pool of this.#guests.get(guest)?.values() ?? []) pool.close();
    this.#guests.delete(guest);
  }
}

/** Ports that were tried once, by a scan for example, must not pile up. */
function dropUnused(ports: Map<number, UpstreamPool>): void {
  for (const [port, pool] of ports) {
    if (pool.size === 0) ports.delete(port);
  }
}
