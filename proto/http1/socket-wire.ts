// Bun's sockets as wires.

import type { Socket, SocketHandler } from "bun";
import { NO_EVENTS, type Wire, type WireEvents } from "./wire.ts";

export class SocketWire implements Wire {
  events: WireEvents = NO_EVENTS;
  readonly #socket: Socket<SocketWire>;
  /** Not yet taken by the kernel: at most what was under way when the writer was told to wait. */
  #queue: Buffer[] = [];
  #isPaused = false;
  #isClosed = false;
  #after: "nothing" | "shutdown" | "end" = "nothing";

  constructor(socket: Socket<SocketWire>) {
    this.#socket = socket;
  }

  get queuedBytes(): number {
    let bytes = 0;
    for (const piece of this.#queue) bytes += piece.length;
    return bytes;
  }

  get remoteAddress(): string {
    return this.#socket.remoteAddress;
  }

  write(bytes: Buffer): boolean {
    if (this.#isClosed) return true;
    if (this.#queue.length > 0) {
      this.#queue.push(bytes);
      return false;
    }
    const written = Math.max(0, this.#socket.write(bytes));
    if (written === bytes.length) return true;
    this.#queue.push(bytes.subarray(written));
    return false;
  }

  pause(): void {
    if (this.#isPaused || this.#isClosed) return;
    this.#isPaused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#isPaused || this.#isClosed) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  shutdown(): void {
    if (this.#after === "nothing") this.#after = "shutdown";
    if (this.#queue.length === 0) this.#finish();
  }

  end(): void {
    this.#after = "end";
    if (this.#queue.length === 0) this.#finish();
  }

  abort(): void {
    if (this.#isClosed) return;
    this.#queue = [];
    this.#socket.terminate();
  }

  /** Called by the socket's handlers only. */
  flush(): void {
    if (this.#isClosed) return;
    while (this.#queue.length > 0) {
      const [first = Buffer.alloc(0)] = this.#queue;
      const written = Math.max(0, this.#socket.write(first));
      if (written < first.length) {
        this.#queue[0] = first.subarray(written);
        return;
      }
      this.#queue.shift();
    }
    if (this.#after === "nothing") this.events.onDrain();
    else this.#finish();
  }

  /** Called by the socket's handlers only. */
  closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#queue = [];
    this.events.onClose();
  }

  #finish(): void {
    if (this.#isClosed) return;
    if (this.#after === "end") this.#socket.end();
    else this.#socket.shutdown();
  }
}

/** Handlers for `Bun.listen` and `Bun.connect`; `opened` gets the wire of each new socket. */
export function wireHandlers(
  opened: (wire: SocketWire) => void,
  failed: (error: Error) => void = () => {},
): SocketHandler<SocketWire> {
  return {
    open(socket) {
      socket.data = new SocketWire(socket);
      socket.setNoDelay(true);
      opened(socket.data);
    },
    data: (socket, bytes) => socket.data.events.onData(bytes),
    drain: (socket) => socket.data.flush(),
    end: (socket) => socket.data.events.onEnd(),
    close: (socket) => socket.data?.closed(),
    // `close` follows.
    error() {},
    connectError: (_, error) => failed(error),
  };
}
