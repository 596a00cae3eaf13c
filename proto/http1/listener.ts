// A TCP listener whose connections are proxied.

import { IdleClock } from "./idle-clock.ts";
import { ServerConnection, type ServerOptions } from "./server-connection.ts";
import { type SocketWire, wireHandlers } from "./socket-wire.ts";
import type { Peer, Router } from "./verdict.ts";
import type { Wire } from "./wire.ts";

const DRAIN_POLL_MS = 20;
/** No request for so long means that none is on its way. */
const QUIET_MS = 200;

export interface ListenOptions {
  readonly hostname: string;
  readonly port: number;
}

/** Every connection of a program's proxies, however it came in. */
export class Front implements AsyncDisposable {
  readonly #options: ServerOptions;
  readonly #connections = new Set<ServerConnection>();
  readonly #clock = new IdleClock();
  readonly #connectionsMax: number;
  #isStopping = false;
  #listeners: Bun.TCPSocketListener<SocketWire>[] = [];

  constructor(options: {
    router: Router;
    connectionsMax: number;
    failed: (error: unknown) => void;
    /** Once a second, for whoever has pools to sweep. */
    tick?: () => void;
  }) {
    this.#connectionsMax = options.connectionsMax;
    this.#options = {
      router: options.router,
      clock: this.#clock,
      failed: options.failed,
      closed: (connection) => this.#connections.delete(connection),
    };
    const { tick } = options;
    if (tick) this.#clock.add({ tick });
  }

  /** Listens on one address more; throws if it is taken. Returns the port, which may have been 0. */
  listen({ hostname, port }: ListenOptions): number {
    const socket = wireHandlers((wire) =>
      this.serve(wire, { address: wire.remoteAddress, scheme: "http" }),
    );
    const listener = Bun.listen<SocketWire>({ hostname, port, socket, allowHalfOpen: true });
    this.#listeners.push(listener);
    return listener.port;
  }

  /** Takes a connection; one too many is cut. */
  serve(wire: Wire, peer: Peer): void {
    if (this.#isStopping || this.#connections.size >= this.#connectionsMax) {
      wire.abort();
      return;
    }
    this.#connections.add(new ServerConnection(wire, peer, this.#options));
  }

  /**
   * Takes no more connections, and ends the others once there has been no request on any for a moment:
   * one may be on its way on a connection that the client kept open. Those under way are cut off after
   * `graceMs`; tunnels have no end of their own and do not count.
   */
  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    for (const listener of this.#listeners) listener.stop();
    this.#listeners = [];
    for (const connection of this.#connections) connection.closeAfterRequest();
    const deadline = performance.now() + graceMs;
    let quietSince = performance.now();
    while (performance.now() < Math.min(deadline, quietSince + QUIET_MS)) {
      await Bun.sleep(DRAIN_POLL_MS);
      if (this.#hasRequests()) quietSince = performance.now();
    }
    for (const connection of [...this.#connections]) connection.abort();
    this.#clock[Symbol.dispose]();
  }

  #hasRequests(): boolean {
    for (const connection of this.#connections) if (connection.isBusy) return true;
    return false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(0);
  }
}
