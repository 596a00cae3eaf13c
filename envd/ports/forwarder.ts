// Makes what listens on the guest's loopback reachable from outside, as its users expect.
//
// Once a second the listening sockets are read; nothing is started for it. A port that listens on
// loopback only gets a listener on the guest's address, inside envd, which is gone when the program
// is, or when it comes to listen on that address itself.
import { connect, createServer, type Server, type Socket } from "node:net";
import { errnoOf } from "../errors.ts";
import { FORWARDED_CONNECTIONS_MAX, FORWARDED_PORTS_MAX } from "../limits.ts";
import { type Listeners, ListenerTable } from "./listeners.ts";

const SCAN_MS = 1000;

interface Forward {
  readonly target: string;
  readonly server: Server;
}

export class PortForwarder {
  readonly #address: string;
  readonly #forwards = new Map<number, Forward>();
  #connectionCount = 0;
  #timer: ReturnType<typeof setInterval> | null = null;

  /** Forwards what reaches the address. */
  constructor(address: string) {
    this.#address = address;
  }

  start(): void {
    const table = new ListenerTable();
    this.#timer ??= setInterval(() => this.apply(table.read()), SCAN_MS);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    for (const port of [...this.#forwards.keys()]) this.#close(port);
  }

  /** Forwards exactly what listens on loopback only. */
  apply({ loopback, reachable }: Listeners): void {
    for (const [port, { target }] of [...this.#forwards]) {
      if (loopback.get(port) !== target) this.#close(port);
    }
    for (const [port, target] of loopback) {
      // A forward itself listens on the guest's address, and so does not count.
      if (this.#forwards.has(port) || reachable.has(port)) continue;
      if (this.#forwards.size < FORWARDED_PORTS_MAX) this.#open(port, target);
    }
  }

  #open(port: number, target: string): void {
    const server = createServer({ allowHalfOpen: true }, (client) => {
      if (this.#connectionCount >= FORWARDED_CONNECTIONS_MAX) client.destroy();
      else this.#relay(client, { port, target });
    });
    // The address may have been taken since, or the guest has none: the next scan tries again.
    server.on("error", () => this.#close(port));
    this.#forwards.set(port, { target, server });
    server.listen(port, this.#address);
  }

  #relay(client: Socket, to: { port: number; target: string }): void {
    const { port, target } = to;
    const upstream = connect({ host: target, port, allowHalfOpen: true });
    this.#connectionCount++;
    let isOver = false;
    const end = () => {
      if (isOver) return;
      isOver = true;
      this.#connectionCount--;
      client.destroy();
      upstream.destroy();
    };
    client.on("error", end).on("close", end);
    upstream.on("close", end);
    upstream.on("error", (error) => {
      end();
      // Nobody listens any more: do not keep the port from who wants it next.
      if (errnoOf(error) === "ECONNREFUSED") this.#close(port);
    });
    client.pipe(upstream);
    upstream.pipe(client);
  }

  /** Stops listening; connections under way run to their end. */
  #close(port: number): void {
    const forward = this.#forwards.get(port);
    if (!forward) return;
    this.#forwards.delete(port);
    forward.server.close();
  }
}
