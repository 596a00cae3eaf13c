// A way to a TCP server that a test can cut and mend, as when that server is restarted, or hold, as when
// it is stopped.

import type { Socket, TCPSocketListener } from "bun";

interface Peer {
  socket: Socket<Peer> | null;
  /** What came before the other side was connected. */
  early: Uint8Array[];
}

export class SeverableLink implements AsyncDisposable {
  readonly #target: { hostname: string; port: number };
  readonly #open = new Set<Socket<Peer>>();
  readonly #dead = new WeakSet<Socket<Peer>>();
  #listener: TCPSocketListener<Peer>;
  /** Connections that their clients have ended. */
  clientsLeft = 0;
  /** What waits while the link is held, in its order; null while it is not. */
  #held: (() => void)[] | null = null;

  constructor(target: { hostname: string; port: number }) {
    this.#target = target;
    this.#listener = this.#listen(0);
  }

  get port(): number {
    return this.#listener.port;
  }

  /** Ends every connection; new ones are refused. */
  cut(): void {
    this.#listener.stop(true);
    for (const socket of this.#open) socket.terminate();
  }

  /** Lets connections through again, on the same port. */
  mend(): void {
    this.#listener = this.#listen(this.port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
  }

  /** Connections stay and new ones are taken, but nothing passes: as when the server is stopped. */
  hold(): void {
    this.#held ??= [];
  }

  /** Lets everything through that was held, and what comes then. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const pass of held) pass();
  }

  /** What comes on connections that are open, the oldest of so many, is lost from now on, unheard. */
  loseOpen(count = Number.POSITIVE_INFINITY): void {
    // Of each the client's side was open first.
    for (const socket of [...this.#open].slice(0, count)) this.#dead.add(socket);
  }

  #pass(step: () => void): void {
    if (this.#held === null) step();
    else this.#held.push(step);
  }

  #listen(port: number): TCPSocketListener<Peer> {
    const open = this.#open;
    return Bun.listen<Peer>({
      hostname: "127.0.0.1",
      port,
      data: { socket: null, early: [] },
      socket: {
        open: (socket) => {
          socket.data = { socket: null, early: [] };
          open.add(socket);
          this.#pass(() => void this.#connect(socket));
        },
        data: (socket, bytes) => {
          if (this.#dead.has(socket)) return;
          const copy = new Uint8Array(bytes);
          if (socket.data.socket === null) socket.data.early.push(copy);
          else this.#pass(() => socket.data.socket?.write(copy));
        },
        close: (socket) => {
          open.delete(socket);
          this.clientsLeft += 1;
          this.#pass(() => socket.data.socket?.end());
        },
      },
    });
  }

  async #connect(client: Socket<Peer>): Promise<void> {
    const open = this.#open;
    const server = await Bun.connect<Peer>({
      ...this.#target,
      data: { socket: client, early: [] },
      socket: {
        data: (socket, bytes) => {
          if (this.#dead.has(socket)) return;
          const copy = new Uint8Array(bytes);
          this.#pass(() => void client.write(copy));
        },
        close: (socket) => {
          open.delete(socket);
          this.#pass(() => void client.end());
        },
      },
    });
    open.add(server);
    for (const bytes of client.data.early) server.write(bytes);
    client.data.socket = server;
    // It may have left while it was held.
    if (!open.has(client)) server.end();
  }
}
