// A client of QEMU's monitor (docs/interop/qmp-spec.txt), for one operation: QEMU accepts one
// connection at a time, so it is made, used and closed.

import type { Socket } from "node:net";
import type { Static, TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { connectInDirectory } from "../../keeper/connect-in-directory.ts";
import type { DescriptorSender } from "../../native/descriptor-sender.ts";
import { VmmError } from "../../vmm/vmm.ts";
import { type QmpFrame, QmpFrames } from "./qmp-frames.ts";

// Honest events are some per state change of the VM.
const EVENTS_MAX = 10_000;

interface Waiter {
  readonly wants: "greeting" | number;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: VmmError) => void;
}

export interface QmpCommand<T extends TSchema> {
  readonly args?: Readonly<Record<string, unknown>>;
  readonly schema: T;
  readonly timeoutMs: number;
}

export class QmpClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #frames = new QmpFrames();
  #waiter: Waiter | null = null;
  #failure: VmmError | null = null;
  #lastId = 0;
  #events = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes: Uint8Array) => this.#receive(bytes));
    socket.on("error", (cause) => this.#fail(new VmmError("QMP: connection lost", { cause })));
    socket.on("close", () => this.#fail(new VmmError("QMP: connection closed")));
  }

  /**
   * Connects to the monitor socket `name` in `directory` and negotiates. Throws VmmError if QEMU
   * does not greet within the bound, which includes its own start.
   */
  static async connect(
    directory: string,
    options: { name: string; timeoutMs: number },
  ): Promise<QmpClient> {
    const socket = await connectInDirectory(directory, options.name).catch((cause: unknown) => {
      throw new VmmError("QMP: cannot connect", { cause });
    });
    const client = new QmpClient(socket);
    try {
      await client.#await("greeting", options.timeoutMs);
      await client.#run("qmp_capabilities", {}, options.timeoutMs);
      return client;
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * Runs one command; only one at a time. Throws VmmError if QEMU refuses it, answers something
   * that is not of `schema`, or nothing within the bound. After the last two the connection is dead.
   */
  async execute<T extends TSchema>(command: string, options: QmpCommand<T>): Promise<Static<T>> {
    const value = await this.#run(command, options.args ?? {}, options.timeoutMs);
    return this.#checked(command, options.schema, value);
  }

  /** As execute, for a command that comes with an open file, which stays the caller's. */
  async executeWithFile<T extends TSchema>(
    command: string,
    options: QmpCommand<T> & { file: number; sender: DescriptorSender },
  ): Promise<Static<T>> {
    const { sender, file } = options;
    const send = (text: string) => sender.send(this.#socket, text, file);
    const value = await this.#run(command, options.args ?? {}, options.timeoutMs, send);
    return this.#checked(command, options.schema, value);
  }

  #checked<T extends TSchema>(command: string, schema: T, value: unknown): Static<T> {
    if (Value.Check(schema, value)) return value;
    throw this.#fail(new VmmError(`QMP: ${command}: unexpected answer`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new VmmError("QMP: closed"));
  }

  async #run(
    command: string,
    args: Readonly<Record<string, unknown>>,
    timeoutMs: number,
    send: (text: string) => void = (text) => void this.#socket.write(text),
  ): Promise<unknown> {
    if (this.#waiter !== null) throw new Error("unreachable: two QMP commands at a time");
    const id = ++this.#lastId;
    const answer = this.#await(id, timeoutMs);
    try {
      if (this.#failure === null) {
        send(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
      }
      return await answer;
    } catch (cause) {
      throw new VmmError(`QMP: ${command} failed`, { cause });
    }
  }

  #await(wants: Waiter["wants"], timeoutMs: number): Promise<unknown> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => {
      this.#fail(new VmmError(`QMP: no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    this.#waiter = { wants, resolve, reject };
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiter = null;
    });
  }

  #receive(bytes: Uint8Array): void {
    try {
      for (const frame of this.#frames.push(bytes)) this.#take(frame);
    } catch (error) {
      if (!(error instanceof VmmError)) throw error;
      this.#fail(error);
    }
  }

  #take(frame: QmpFrame): void {
    if (frame.kind === "event") {
      if (++this.#events > EVENTS_MAX) throw new VmmError("QMP: too many events");
      return;
    }
    const waiter = this.#waiter;
    if (waiter === null || waiter.wants !== (frame.kind === "greeting" ? "greeting" : frame.id)) {
      throw new VmmError("QMP: an answer that nobody asked for");
    }
    this.#waiter = null;
    if (frame.kind === "error") waiter.reject(new VmmError(frame.message));
    else waiter.resolve(frame.kind === "result" ? frame.value : null);
  }

  #fail(failure: VmmError): VmmError {
    this.#failure ??= failure;
    this.#waiter?.reject(this.#failure);
    this.#waiter = null;
    this.#socket.destroy();
    return failure;
  }
}
