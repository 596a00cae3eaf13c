// A client of the HTTP API that Firecracker and Cloud Hypervisor serve on a unix socket, for one
// operation: it is made, used and closed. What answers may be a VMM that its guest has taken over.

import type { Socket } from "node:net";
import type { Static, TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { MalformedHttp, parseResponseHead, type ResponseHead } from "../../../proto/http1/head.ts";
import { connectInDirectory } from "../../keeper/connect-in-directory.ts";
import { VmmError } from "../../vmm/vmm.ts";

/** Head and body; the longest honest answer to what we ask, a VMM's configuration, is some kilobytes. */
const ANSWER_BYTES_MAX = 256 * 1024;
const REASON_MAX = 500;
const HEAD_END = Buffer.from("\r\n\r\n");
const CONNECT_POLL_MS = 1;

export interface ApiRequest {
  readonly method: "GET" | "PUT" | "PATCH";
  readonly path: string;
  readonly body?: Readonly<Record<string, unknown>>;
}

/** The VMM answered, and did not do it; it can be asked again. */
export class ApiRefusal extends VmmError {
  readonly status: number;
  /** What it said, cut. */
  readonly reason: string;

  constructor(request: ApiRequest, answer: { status: number; reason: string }) {
    super(`${request.method} ${request.path}: ${answer.status} ${answer.reason}`);
    this.status = answer.status;
    this.reason = answer.reason;
  }
}

interface Waiter {
  readonly method: string;
  readonly resolve: (answer: { status: number; body: string }) => void;
  readonly reject: (error: VmmError) => void;
}

export class VmmApi implements AsyncDisposable {
  readonly #socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #head: ResponseHead | null = null;
  #waiter: Waiter | null = null;
  #failure: VmmError | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => this.#receive(bytes));
    socket.on("error", (cause) => this.#fail(new VmmError("The VMM's API is lost", { cause })));
    socket.on("close", () => this.#fail(new VmmError("The VMM's API closed the connection")));
  }

  /**
   * Connects to the socket `name` in `directory`. Throws VmmError if nobody listens there. With
   * `startTimeoutMs` that is waited for, for as long as `ended` is not resolved: a VMM makes its socket
   * some milliseconds after its start.
   */
  static async connect(
    directory: string,
    options: { name: string; start?: { timeoutMs: number; ended: Promise<unknown> } },
  ): Promise<VmmApi> {
    const { name, start } = options;
    const deadline = performance.now() + (start?.timeoutMs ?? 0);
    let hasEnded = start === undefined;
    void start?.ended.then(() => {
      hasEnded = true;
    });
    for (;;) {
      try {
        return new VmmApi(await connectInDirectory(directory, name));
      } catch (cause) {
        if (hasEnded || performance.now() > deadline) {
          throw new VmmError("The VMM's API does not listen", { cause });
        }
      }
      await Bun.sleep(CONNECT_POLL_MS);
    }
  }

  /**
   * Sends one request; only one at a time. Throws ApiRefusal, or VmmError if the answer breaks the
   * protocol or does not come within the bound, after which the connection is dead.
   */
  async send(request: ApiRequest, timeoutMs: number): Promise<void> {
    await this.#exchange(request, timeoutMs);
  }

  /** As send, for what the answer says. */
  async ask<T extends TSchema>(
    request: ApiRequest,
    options: { schema: T; timeoutMs: number },
  ): Promise<Static<T>> {
    const text = await this.#exchange(request, options.timeoutMs);
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw this.#fail(new VmmError(`${request.path}: the answer is not JSON`, { cause }));
    }
    if (Value.Check(options.schema, value)) return value;
    throw this.#fail(new VmmError(`${request.path}: unexpected answer`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new VmmError("The connection to the VMM's API is closed"));
  }

  async #exchange(request: ApiRequest, timeoutMs: number): Promise<string> {
    if (this.#waiter !== null) throw new Error("unreachable: two requests at a time");
    if (this.#failure !== null) throw this.#failure;
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>();
    const timer = setTimeout(() => {
      this.#fail(new VmmError(`${request.path}: no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    this.#waiter = { method: request.method, resolve, reject };
    this.#socket.write(formatRequest(request));
    try {
      const { status, body } = await promise;
      if (status >= 200 && status < 300) return body;
      throw new ApiRefusal(request, { status, reason: body.slice(0, REASON_MAX) });
    } finally {
      clearTimeout(timer);
      this.#waiter = null;
    }
  }

  #receive(bytes: Buffer): void {
    if (this.#waiter === null) {
      this.#fail(new VmmError("The VMM's API answers what nobody asked"));
      return;
    }
    if (this.#received.length + bytes.length > ANSWER_BYTES_MAX) {
      this.#fail(new VmmError(`The VMM's API answers more than ${ANSWER_BYTES_MAX} bytes`));
      return;
    }
    this.#received = Buffer.concat([this.#received, bytes]);
    try {
      this.#read(this.#waiter);
    } catch (cause) {
      if (!(cause instanceof MalformedHttp)) throw cause;
      this.#fail(new VmmError("The VMM's API does not speak HTTP", { cause }));
    }
  }

  #read(waiter: Waiter): void {
    if (this.#head === null) {
      const end = this.#received.indexOf(HEAD_END);
      if (end < 0) return;
      const headBytes = end + HEAD_END.length;
      this.#head = parseResponseHead(this.#received.subarray(0, headBytes), waiter.method);
      this.#received = this.#received.subarray(headBytes);
    }
    const { status, bodyLength } = this.#head;
    if (typeof bodyLength !== "number" || status < 200) {
      throw new MalformedHttp("The answer does not tell its length");
    }
    if (this.#received.length < bodyLength) return;
    if (this.#received.length > bodyLength) throw new MalformedHttp("More than one answer");
    const body = this.#received.toString("utf8");
    this.#received = Buffer.alloc(0);
    this.#head = null;
    waiter.resolve({ status, body });
  }

  #fail(failure: VmmError): VmmError {
    this.#failure ??= failure;
    this.#waiter?.reject(this.#failure);
    this.#socket.destroy();
    return failure;
  }
}

function formatRequest({ method, path, body }: ApiRequest): string {
  const text = body === undefined ? "" : JSON.stringify(body);
  const lines = [`${method} ${path} HTTP/1.1`, "Host: localhost", "Accept: application/json"];
  if (body !== undefined) {
    lines.push("Content-Type: application/json", `Content-Length: ${Buffer.byteLength(text)}`);
  }
  return `${lines.join("\r\n")}\r\n\r\n${text}`;
}
