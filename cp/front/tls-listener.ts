// TLS in front: HTTP/2 and HTTP/1.1 on one port, chosen by ALPN. Both end in the same front.

import { readFile } from "node:fs/promises";
import {
  createServer as createHttp2Server,
  type Http2Server,
  type Http2Stream,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { Front } from "../../proto/http1/listener.ts";
import { Http2Session } from "./http2-session.ts";
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
  readonly #front: Front;
  readonly #server: Server;
  readonly #http2: Http2Server;
  /** With what each holds until it is closed. */
  readonly #sockets = new Map<TLSSocket, Disposable>();
  readonly #sessions = new WeakMap<object, Http2Session>();

  private constructor(front: Front, pem: { cert: Buffer; key: Buffer }) {
    this.#front = front;
    // Windows stay at their defaults: with larger ones uploads of Bun 1.4.5 come to a stop.
    this.#http2 = createHttp2Server({ settings: { maxConcurrentStreams: STREAMS_MAX } });
    this.#http2.on("session", (session: ServerHttp2Session) => {
      const { clock, limits } = front;
      this.#sessions.set(session, new Http2Session(session, clock, limits.silences));
    });
    this.#http2.on("stream", (stream, headers) => this.#open(stream, headers));
    this.#http2.on("sessionError", () => {});
    const { firstRequestMs } = front.limits.silences;
    const handshakeTimeout = Math.min(HANDSHAKE_TIMEOUT_MS, firstRequestMs);
    this.#server = createServer(
      { ...pem, ALPNProtocols: ["h2", "http/1.1"], handshakeTimeout },
      (socket) => this.#take(socket),
    );
    this.#server.on("connection", (socket: TLSSocket) => this.#admit(socket));
    // Also of a handshake that takes too long, whose socket Bun 1.4.5 leaves open.
    this.#server.on("tlsClientError", (_, socket) => socket.destroy());
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
    for (const socket of this.#sockets.keys()) socket.unref();
  }

  /** Before its handshake: there is no way to tell one too many what is wrong. */
  #admit(socket: TLSSocket): void {
    const entry = this.#front.admit(addressOf(socket));
    socket.on("error", () => {});
    if (typeof entry === "string") {
      socket.destroy();
      return;
    }
    this.#sockets.set(socket, entry);
    socket.on("close", () => {
      this.#sockets.delete(socket);
      entry[Symbol.dispose]();
    });
  }

  #take(socket: TLSSocket): void {
    const entry = this.#sockets.get(socket);
    if (entry === undefined) socket.destroy();
    else if (socket.alpnProtocol === "h2") this.#http2.emit("connection", socket);
    else {
      const peer = { address: addressOf(socket), scheme: "https" } as const;
      this.#front.serve(new StreamWire(socket), peer, entry);
    }
  }

  #open(stream: Http2Stream, headers: IncomingHttpHeaders): void {
    const { session } = stream;
    // Also of a request that has not begun when its connection breaks; `close` follows.
    stream.on("error", () => {});
    if (!isServerStream(stream) || session === undefined) return;
    const peer = { address: addressOf(session.socket), scheme: "https" } as const;
    this.#sessions.get(session)?.begin(stream, () => {
      Http2Wire.open(stream, headers, {
        serve: (wire) => this.#front.serve(wire, peer),
        refuse: (wire, why) => this.#front.refuse(wire, peer, why),
      });
    });
  }
}

function addressOf(socket: { readonly remoteAddress?: string | undefined }): string {
  return socket.remoteAddress ?? "unknown";
}

function isServerStream(stream: Http2Stream): stream is ServerHttp2Stream {
  return "respond" in stream;
}
