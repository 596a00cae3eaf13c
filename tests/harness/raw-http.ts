// HTTP by hand: clients and servers that say exactly what a test wants, well-formed or not.

import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export interface RawServer extends AsyncDisposable {
  readonly port: number;
  /** What was received on all connections, in order. */
  readonly received: () => string;
  readonly connections: () => number;
}

/** A server whose every connection is given to `serve`, with the first bytes that came. */
export async function rawServer(serve: (socket: Socket, text: string) => void): Promise<RawServer> {
  const sockets = new Set<Socket>();
  const texts: string[] = [];
  let connections = 0;
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (bytes: Buffer) => {
      const text = bytes.toString("latin1");
      texts.push(text);
      serve(socket, text);
    });
    socket.on("end", () => socket.end());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no address");
  return {
    port: address.port,
    received: () => texts.join(""),
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** Sends the bytes and collects what comes until the connection ends or `until` holds. */
export async function rawExchange(
  port: number,
  bytes: string | Uint8Array,
  until: (text: string) => boolean = () => false,
): Promise<{ text: string; error: string | null }> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const { promise, resolve } = Promise.withResolvers<string | null>();
  let text = "";
  socket.on("data", (piece: Buffer) => {
    text += piece.toString("latin1");
    if (until(text)) resolve(null);
  });
  socket.on("error", (error) => resolve(error.message));
  socket.on("end", () => resolve(null));
  socket.write(bytes);
  const timer = setTimeout(() => resolve("timeout"), 8_000);
  const error = await promise;
  clearTimeout(timer);
  socket.destroy();
  return { text, error };
}
