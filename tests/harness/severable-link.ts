// A way to a TCP server that a test can cut and mend, as when that server is restarted.

import type { Socket, TCPSocketListener } from "bun";

interface Peer {
  socket: Socket<Peer> | null;
  /** What came before the other side was connected. */
  early: Uint8Array[];
}

export class SeverableLink implements AsyncDisposable {
  readonly #target: { hostname: string; port: number };
  readonly #open = new Set<Socket<Peer>>();
  #listener: TCPSocketListener<Peer>;

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
          void this.#connect(socket);
        },
        data: (socket, bytes) => {
          if (socket.data.socket === null) socket.data.early.push(new Uint8Array(bytes));
          else socket.data.socket.write(bytes);
        },
        close: (socket) => {
          open.delete(socket);
          socket.data.socket?.end();
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
        data: (_socket, bytes) => {
          client.write(bytes);
        },
        close: (socket) => {
          open.delete(socket);
          client.end();
        },
      },
    });
    open.add(server);
    for (const bytes of client.data.early) server.write(bytes);
    client.data.socket = server;
  }
}
