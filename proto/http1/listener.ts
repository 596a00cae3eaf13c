// A TCP listener whose connections are proxied.

import { Admission, type AdmissionLimits, type NotAdmitted } from "./admission.ts";
import { header } from "./head.ts";
import { IdleClock } from "./idle-clock.ts";
import { ServerConnection, type ServerOptions, type Silences } from "./server-connection.ts";
import { type SocketWire, wireHandlers } from "./socket-wire.ts";
import type { ServerTls } from "./tls.ts";
import { securedHandlers } from "./tls-wire.ts";
import type { Answer, Answered, Peer, Refuse, Router } from "./verdict.ts";
import type { Wire } from "./wire.ts";

const DRAIN_POLL_MS = 20;
/** No request for so long means that none is on its way. */
const QUIET_MS = 200;
/** Connections too many that are told so at a time; the others are cut. */
const TURNED_AWAY_MAX = 256;

export interface FrontLimits extends AdmissionLimits {
  /** What clients have sent too early, and what they do not take, of all connections together. */
  readonly heldBytesMax: number;
  readonly silences: Silences;
}

export interface FrontOptions {
  readonly router: Router;
  readonly limits: FrontLimits;
  /** Whether an address forwards requests of many clients, so that its connections are not one client's. */
  readonly isForwarder?: (address: string) => boolean;
  readonly failed: (error: unknown) => void;
  /** As of `ServerOptions`; JSON with status and reason unless given. */
  readonly refuse?: Refuse;
  readonly answered?: Answered;
  /** Once a second, for whoever has pools to sweep. */
  readonly tick?: () => void;
}

export interface ListenOptions {
  readonly hostname: string;
  readonly port: number;
  /** Omitted: anybody may connect, in the clear. */
  readonly tls?: ServerTls;
}

/** Every connection of a program's proxies, however it came in. */
export class Front implements AsyncDisposable {
  readonly limits: FrontLimits;
  readonly clock = new IdleClock();
  readonly #options: FrontOptions;
  readonly #server: ServerOptions;
  readonly #admission: Admission;
  /** With what each holds until it ends. */
  readonly #connections = new Map<ServerConnection, Disposable>();
  #turnedAway = 0;
  #isStopping = false;
  #listeners: Pick<Bun.TCPSocketListener, "stop">[] = [];

  constructor(options: FrontOptions) {
    const { limits, router, failed, refuse = refuseInJson, answered } = options;
    const { clock } = this;
    this.limits = limits;
    this.#options = options;
    this.#admission = new Admission(limits);
    const closed = (connection: ServerConnection) => this.#ended(connection);
    const { silences } = limits;
    this.#server = { router, clock, silences, refuse, answered, failed, closed };
    this.clock.add({ tick: () => this.#tick() });
  }

  /** What clients have sent too early, and what they do not take. */
  get heldBytes(): number {
    let bytes = 0;
    for (const connection of this.#connections.keys()) bytes += connection.heldBytes;
    return bytes;
  }

  /** Listens on one address more; throws if it is taken. Returns the port, which may have been 0. */
  listen({ hostname, port, tls }: ListenOptions): number {
    const at = { hostname, port, allowHalfOpen: true };
    const listener =
      tls === undefined
        ? Bun.listen<SocketWire>({ ...at, socket: wireHandlers((wire) => this.#serve(wire)) })
        : Bun.listen({ ...at, socket: this.#secured(tls) });
    this.#listeners.push(listener);
    return listener.port;
  }

  /** Counts a connection until it is disposed. */
  admit(address: string): Disposable | NotAdmitted {
    if (this.#isStopping) return "full";
    const isForwarder = this.#options.isForwarder?.(address) ?? false;
    return this.#admission.admit(isForwarder ? null : address);
  }

  /** Takes a connection, which counts unless it was admitted before. One too many is told so. */
  serve(wire: Wire, peer: Peer, admitted?: Disposable): void {
    const entry = admitted ?? this.admit(peer.address);
    if (typeof entry === "string") this.#turnAway(wire, peer, entry);
    else this.#take(wire, peer, entry);
  }

  /** Answers 400 to what came on a wire that could not be made a request of; it counts like one. */
  refuse(wire: Wire, peer: Peer, why: string): void {
    const entry = this.admit(peer.address);
    if (typeof entry === "string") this.#turnAway(wire, peer, entry);
    else this.#take(wire, peer, entry).refuse(400, why);
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
    for (const connection of this.#connections.keys()) connection.closeAfterRequest();
    const deadline = performance.now() + graceMs;
    let quietSince = performance.now();
    while (performance.now() < Math.min(deadline, quietSince + QUIET_MS)) {
      await Bun.sleep(DRAIN_POLL_MS);
      if (this.#hasRequests()) quietSince = performance.now();
    }
    for (const connection of [...this.#connections.keys()]) connection.abort();
    this.clock[Symbol.dispose]();
  }

  #serve(wire: SocketWire): void {
    this.serve(wire, { address: wire.remoteAddress, scheme: "http" });
  }

  #secured(tls: ServerTls) {
    return securedHandlers(tls, {
      admit: (address) => {
        const entry = this.admit(address);
        return typeof entry === "string" ? null : entry;
      },
      opened: (wire, admitted) =>
        this.serve(wire, { address: wire.remoteAddress, scheme: "https" }, admitted),
    });
  }

  #take(wire: Wire, peer: Peer, entry: Disposable): ServerConnection {
    const connection = new ServerConnection(wire, peer, this.#server);
    this.#connections.set(connection, entry);
    return connection;
  }

  #turnAway(wire: Wire, peer: Peer, why: NotAdmitted): void {
    if (this.#isStopping || this.#turnedAway >= TURNED_AWAY_MAX) {
      wire.abort();
      return;
    }
    this.#turnedAway += 1;
    const entry = { [Symbol.dispose]: () => void this.#turnedAway-- };
    const connection = this.#take(wire, peer, entry);
    if (why === "full") connection.refuse(503, "There are too many connections; try again");
    else connection.refuse(429, "There are too many connections from this address");
  }

  #ended(connection: ServerConnection): void {
    this.#connections.get(connection)?.[Symbol.dispose]();
    this.#connections.delete(connection);
  }

  #tick(): void {
    this.#shed();
    this.#options.tick?.();
  }

  /** Ends the connections for which most is held until what is left is within the bound. */
  #shed(): void {
    const { heldBytesMax } = this.limits;
    let heldBytes = this.heldBytes;
    if (heldBytes <= heldBytesMax) return;
    const heaviest = [...this.#connections.keys()].sort((a, b) => b.heldBytes - a.heldBytes);
    for (const connection of heaviest) {
      if (heldBytes <= heldBytesMax) return;
      heldBytes -= connection.heldBytes;
      connection.abort();
    }
  }

  #hasRequests(): boolean {
    for (const connection of this.#connections.keys()) if (connection.isBusy) return true;
    return false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(0);
  }
}

function refuseInJson(status: number, why: string): Answer {
  const body = JSON.stringify({ code: status, message: why });
  return { status, headers: [header("Content-Type", "application/json")], body };
}
