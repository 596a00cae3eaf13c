// A client of the WebSocket routes, as a stranger would write it.

import { GUEST_MS, waitFor } from "./wait-for.ts";

export interface StreamMessage {
  readonly type: string;
  /** Of binary output in base64, as in JSON. */
  readonly data?: string;
  readonly isBinary?: boolean;
  readonly pid?: number;
  readonly tag?: string;
  readonly exit_code?: number;
  readonly code?: string;
  readonly reason?: string;
  readonly retryable?: boolean;
  readonly fatal?: boolean;
}

/** A connection whose messages are read in order. */
export class StreamClient implements AsyncDisposable {
  readonly socket: WebSocket;
  /** Resolves with the close frame's code. */
  readonly closed: Promise<number>;
  readonly #received: StreamMessage[] = [];
  #wake: () => void = () => {};
  #isClosed = false;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => {
      const message: StreamMessage =
        typeof data === "string"
          ? JSON.parse(data)
          : { type: "output", data: new Uint8Array(data).toBase64(), isBinary: true };
      this.#received.push(message);
      this.#wake();
    });
    this.closed = new Promise((resolve) => {
      socket.addEventListener("close", ({ code }) => {
        this.#isClosed = true;
        this.#wake();
        resolve(code);
      });
    });
  }

  /** Connects to the path below an `http:` address; rejects when the upgrade is refused. */
  static async open(
    base: string | URL,
    path: string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<StreamClient> {
    const url = new URL(path, base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, { headers });
    const client = new StreamClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.addEventListener("open", () => resolve());
      socket.addEventListener("error", () => reject(new Error("the upgrade was refused")));
    });
    return client;
  }

  send(message: Record<string, unknown>): void {
    this.socket.send(JSON.stringify(message));
  }

  /** Types into a terminal. */
  type(text: string | Uint8Array): void {
    this.socket.send(Buffer.from(text));
  }

  /** The same in JSON, as the first clients do. */
  typeInJson(text: string): void {
    this.send({ type: "input", data: Buffer.from(text).toString("base64") });
  }

  /** The next message; null once the connection is closed and all is read. */
  async next(what = "a message"): Promise<StreamMessage | null> {
    for (;;) {
      const message = this.#received.shift();
      if (message !== undefined) return message;
      if (this.#isClosed) return null;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await waitFor(what, () => promise, { holds: () => true, timeoutMs: GUEST_MS });
    }
  }

  /** Reads on to the next message of that type; throws when there is none. */
  async until(type: string): Promise<StreamMessage> {
    for (;;) {
      const message = await this.next(`a message "${type}"`);
      if (message === null) throw new Error(`closed before ${type}`);
      if (message.type === type) return message;
      if (message.type === "error") throw new Error(`${message.code}: ${message.data}`);
    }
  }

  /** All messages up to the end of the connection. */
  async rest(): Promise<StreamMessage[]> {
    const messages: StreamMessage[] = [];
    for (;;) {
      const message = await this.next("the end of the stream");
      if (message === null) return messages;
      messages.push(message);
    }
  }

  /** Reads a terminal until its output contains the text; returns the output so far. */
  async untilOutput(text: string): Promise<string> {
    const decoder = new TextDecoder();
    let output = "";
    while (!output.includes(text)) {
      const message = this.until("output");
      const { data = "" } = await message.catch((cause: unknown) => {
        throw new Error(`no ${JSON.stringify(text)} in ${JSON.stringify(output)}`, { cause });
      });
      output += decoder.decode(Buffer.from(data, "base64"), { stream: true });
    }
    return output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.close();
    await this.closed;
  }
}

/** What the messages of a type say, put together. */
export function textOf(messages: readonly StreamMessage[], type: string): string {
  return messages
    .filter((message) => message.type === type)
    .map(({ data }) => data ?? "")
    .join("");
}
