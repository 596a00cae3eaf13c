// TLS in front: HTTP/2 and HTTP/1.1 on one port, chosen by ALPN. Both end in the same front.

import { readFile } from "node:fs/promises";
import {
  createServer as createHttp2Server,
  type Http2Server,
  type Http2Stream,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { Front } from "../../proto/http1/listener.ts";
import { Http2Wire } from "./http2-wire.ts";
import { StreamWire } from "./stream-wire.ts";

const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Of one HTTP/2 connection. */
const STREAMS_MAX = 250;

export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export class TlsListener {
  readonly #server: Server;
  readonly #http2: Http2Server;
  readonly #sockets = new Set<TLSSocket>();

  private constructor(front: Front, pem: { cert: Buffer; key: Buffer }) {
    // Windows stay at their defaults: with larger ones uploads of Bun 1.4.5 come to a stop.
    this.#http2 = createHttp2Server({ settings: { maxConcurrentStreams: STREAMS_MAX } });
    this.#http2.on("stream", (stream, headers) => {
      if (!isServerStream(stream)) return;
      const address = stream.session?.socket.remoteAddress ?? "unknown";
      Http2Wire.open(stream, headers, (wire) => front.serve(wire, { address, scheme: "https" }));
    });
    this.#http2.on("sessionError", () => {});
    this.#server = createServer(
      { ...pem, ALPNProtocols: ["h2", "http/1.1"], handshakeTimeout: HANDSHAKE_TIMEOUT_MS },
      (socket) => this.#take(socket, front),
    );
    this.#server.on("tlsClientError", () => {});
  }

  /** Reads the files; throws when one is missing or no certificate. */
  static async open(front: Front, files: TlsFiles): Promise<TlsListener> {
    const [cert, key] = await Promise.all([readFile(files.certFile), readFile(files.keyFile)]);
    return new TlsListener(front, { cert, key });
  }

  /** Throws if the address is taken. Returns the port, which may have been 0. */
  async listen({ hostname, port }: { hostname: string; port: number }): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once("error", reject);
    this.#server.listen(port, hostname, resolve);
    await promise;
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : port;
  }

  /** Takes no new connections, and no new requests on those of HTTP/2. */
  stop(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.unref();
  }

  #take(socket: TLSSocket, front: Front): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    if (socket.alpnProtocol === "h2") this.#http2.emit("connection", socket);
    else {
      const address = socket.remoteAddress ?? "unknown";
      front.serve(new StreamWire(socket), { address, scheme: "https" });
    }
  }
}

function isServerStream(stream: Http2Stream): stream is ServerHttp2Stream {
  return "respond" in stream;
}
