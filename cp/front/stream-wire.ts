// Node's TLS sockets as wires.

import type { TLSSocket } from "node:tls";
import { NO_EVENTS, type Wire, type WireEvents } from "../../proto/http1/wire.ts";

export class StreamWire implements Wire {
  events: WireEvents = NO_EVENTS;
  readonly #socket: TLSSocket;

  constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => this.events.onData(bytes));
    socket.on("drain", () => this.events.onDrain());
    socket.on("end", () => this.events.onEnd());
    socket.on("close", () => this.events.onClose());
    // `close` follows.
    socket.on("error", () => {});
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  write(bytes: Buffer): boolean {
    return this.#socket.destroyed || this.#socket.write(bytes);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  shutdown(): void {
    this.#socket.end();
  }

  end(): void {
    this.#socket.end();
  }

  abort(): void {
    // Without TLS's closing message, which clients take for a cut.
    this.#socket.destroy();
  }
}
