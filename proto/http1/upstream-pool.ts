// Connections to one server: dialled with retries, kept for the next request, dropped with the pool. A
// pool belongs to the life of what it connects to, not to an address: addresses are used again.

import { ByteWindow } from "./byte-window.ts";
import { HeadReader } from "./head-reader.ts";
import { type SocketWire, wireHandlers } from "./socket-wire.ts";
import type { ClientTls } from "./tls.ts";
import { clientOptions, securedClientHandlers } from "./tls-wire.ts";
import { NO_EVENTS, type Wire, type WireEvents } from "./wire.ts";

export type UpstreamAddress =
  | { readonly hostname: string; readonly port: number; readonly tls?: ClientTls }
  | { readonly unix: string };

export interface UpstreamPoolOptions {
  readonly address: UpstreamAddress;
  /** Idle connections kept at most, and for how long: less than the server keeps them. */
  readonly idleMax: number;
  readonly idleMs: number;
  /** Connections at once, idle ones too. */
  readonly connectionsMax: number;
  /**
   * Waits between attempts to connect when nobody listens; their number is one less than that of the
   * attempts. Where nobody answers at all, there is one attempt.
   */
  readonly retryAfterMs: readonly number[];
  readonly dialTimeoutMs: number;
  /**
   * Whether the server may close an idle connection at any time. Then only requests that can be sent
   * twice go over a used one.
   */
  readonly isFickle: boolean;
}

/** Why there is no connection. */
export type DialFailure = "refused" | "busy" | "closed";

/** A connection of a pool, which listens to it while it is idle. */
export class Upstream implements WireEvents {
  readonly wire: Wire;
  /** It has carried a request before: the server may be about to close it. */
  isUsed = false;
  idleSince = 0;
  /** Of an answer whose head is not whole yet. */
  readonly received = new ByteWindow();
  readonly heads = new HeadReader();
  readonly #ended: (upstream: Upstream) => void;

  constructor(wire: Wire, ended: (upstream: Upstream) => void) {
    this.wire = wire;
    this.#ended = ended;
  }

  /** A server that speaks unasked is out of step. */
  onData(): void {
    this.#ended(this);
  }

  onDrain(): void {}

  onEnd(): void {
    this.#ended(this);
  }

  onClose(): void {
    this.#ended(this);
  }
}

export class UpstreamPool {
  readonly options: UpstreamPoolOptions;
  readonly #idle: Upstream[] = [];
  readonly #open = new Set<Upstream>();
  #dialling = 0;
  #isClosed = false;

  constructor(options: UpstreamPoolOptions) {
    this.options = options;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Connections that are open or being opened. */
  get size(): number {
    return this.#open.size + this.#dialling;
  }

  /** An idle connection, the one used last first. */
  take(): Upstream | null {
    const oldest = performance.now() - this.options.idleMs;
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      idle.wire.events = NO_EVENTS;
      if (idle.idleSince >= oldest) return idle;
      this.drop(idle);
    }
    return null;
  }

  /** A new connection, or why there is none. */
  async dial(): Promise<Upstream | DialFailure> {
    if (this.#open.size + this.#dialling >= this.options.connectionsMax) {
      const idle = this.#idle.shift();
      if (idle === undefined) return "busy";
      this.drop(idle);
    }
    this.#dialling += 1;
    try {
      return await this.#dial();
    } finally {
      this.#dialling -= 1;
    }
  }

  /** Keeps a connection whose last response has ended. */
  release(upstream: Upstream): void {
    if (this.#isClosed || !this.#open.has(upstream)) {
      this.drop(upstream);
      return;
    }
    upstream.isUsed = true;
    upstream.idleSince = performance.now();
    upstream.wire.events = upstream;
    upstream.wire.resume();
    this.#idle.push(upstream);
    if (this.#idle.length > this.options.idleMax) {
      const oldest = this.#idle.shift();
      if (oldest !== undefined) this.drop(oldest);
    }
  }

  /** Ends a connection that is of no more use. */
  drop(upstream: Upstream): void {
    this.#open.delete(upstream);
    upstream.wire.events = NO_EVENTS;
    upstream.wire.abort();
  }

  /** Ends connections that nobody used for long. */
  sweep(): void {
    const oldest = performance.now() - this.options.idleMs;
    while (this.#idle[0] !== undefined && this.#idle[0].idleSince < oldest) {
      const idle = this.#idle.shift();
      if (idle !== undefined) this.drop(idle);
    }
  }

  /** The server is known to answer nothing for now: what waits for the beginning of an answer has failed. */
  standStill(): void {
    for (const { wire } of this.#open) wire.events.onStandstill?.();
  }

  /** Ends every connection, those in use too; whoever uses one sees its wire close. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#idle.length = 0;
    for (const upstream of this.#open) upstream.wire.abort();
    this.#open.clear();
  }

  async #dial(): Promise<Upstream | DialFailure> {
    for (const waitMs of [0, ...this.options.retryAfterMs]) {
      if (waitMs > 0) await Bun.sleep(waitMs);
      if (this.#isClosed) return "closed";
      const wire = await connect(this.options.address, this.options.dialTimeoutMs);
      if (wire === "silent") break;
      if (wire === "refused") continue;
      if (this.#isClosed) {
        wire.abort();
        return "closed";
      }
      const upstream = new Upstream(wire, (ended) => this.#forget(ended));
      this.#open.add(upstream);
      return upstream;
    }
    return this.#isClosed ? "closed" : "refused";
  }

  #forget(upstream: Upstream): void {
    const at = this.#idle.indexOf(upstream);
    if (at >= 0) this.#idle.splice(at, 1);
    this.drop(upstream);
  }
}

/** `refused` when nobody listens there, `silent` when nobody answered in time. */
function connect(
  address: UpstreamAddress,
  timeoutMs: number,
): Promise<SocketWire | "refused" | "silent"> {
  return new Promise((resolve) => {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      resolve("silent");
    }, timeoutMs);
    const opened = (wire: SocketWire) => {
      clearTimeout(timer);
      if (isLate) wire.abort();
      else resolve(wire);
    };
    const failed = () => {
      clearTimeout(timer);
      resolve("refused");
    };
    open(address, opened, failed).catch(failed);
  });
}

async function open(
  address: UpstreamAddress,
  opened: (wire: SocketWire) => void,
  failed: (error: Error) => void,
): Promise<unknown> {
  const allowHalfOpen = true;
  const clear = wireHandlers(opened, failed);
  if ("unix" in address) {
    return await Bun.connect<SocketWire>({ unix: address.unix, socket: clear, allowHalfOpen });
  }
  const { tls, ...at } = address;
  if (tls === undefined) {
    return await Bun.connect<SocketWire>({ ...at, socket: clear, allowHalfOpen });
  }
  const socket = securedClientHandlers(opened, failed);
  return await Bun.connect<SocketWire>({ ...at, socket, allowHalfOpen, tls: clientOptions(tls) });
}
