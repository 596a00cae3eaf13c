// A WebSocket client that can stop reading, and that can send what no decent client would.

import { connect, type Socket } from "node:net";

const MASK = Buffer.from([1, 2, 3, 4]);

export class RawWebSocket implements AsyncDisposable {
  receivedBytes = 0;
  /** Resolves when the server has ended the connection. */
  readonly ended: Promise<void>;
  /** The answer to the handshake. */
  readonly head: string;
  readonly #socket: Socket;

  private constructor(socket: Socket, head: string) {
    this.#socket = socket;
    this.head = head;
    socket.on("data", (chunk) => {
      this.receivedBytes += chunk.length;
    });
    socket.on("error", () => {});
    this.ended = new Promise((resolve) => socket.on("close", () => resolve()));
  }

  /** Rejects unless the server switches protocols. */
  static async open(
    base: URL,
    path: string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<RawWebSocket> {
    const socket = connect(Number(base.port), base.hostname);
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${base.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n` +
        `${lines.join("")}\r\n`,
    );
    const head = await new Promise<string>((resolve, reject) => {
      socket.once("data", (chunk) => resolve(chunk.toString("latin1")));
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("closed")));
    });
    if (!head.startsWith("HTTP/1.1 101 ")) throw new Error(head);
    return new RawWebSocket(socket, head);
  }

  send(message: Record<string, unknown>): void {
    this.frame(0x81, Buffer.from(JSON.stringify(message)));
  }

  /** A frame with that first byte: final text is 0x81, binary 0x82, close 0x88. */
  frame(first: number, payload: Buffer): void {
    const { byteLength } = payload;
    const head = Buffer.alloc(10);
    head[0] = first;
    head[1] = 0x80 | 127;
    head.writeBigUInt64BE(BigInt(byteLength), 2);
    const masked = payload.map((byte, i) => byte ^ (MASK[i % 4] ?? 0));
    const short = byteLength < 126 ? Buffer.from([first, 0x80 | byteLength]) : head;
    this.#socket.write(Buffer.concat([short, MASK, masked]));
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await this.ended;
  }
}
