// One WebSocket of a client, with backpressure both ways.
//
// On Bun's own WebSocket, not Elysia's wrapper: `send` tells when the client is behind and `drain` when
// it has caught up, so output is only asked for when it can go out; `pause` stops reading a client
// whose input the capsule does not take. Elysia's wrapper validates and copies each message and knows
// no `pause`. A route upgrades with a StreamSocket as the socket's data, which is where Elysia's
// listener looks for the handlers.

import type { ServerWebSocket } from "bun";
import { parseBoundedJson } from "../bounded-json.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { unforeseen } from "../outage.ts";
import { Inbox } from "./inbox.ts";
import {
  BAD_MESSAGES_MAX,
  MESSAGE_BYTES_MAX,
  MESSAGES_PER_SECOND_MAX,
  PEER_SILENCE_MS_MAX,
  PEER_STALL_MS_MAX,
  PING_MS,
} from "./limits.ts";

/** RFC 6455, 7.4.1. */
export const CLOSE = {
  normal: 1000,
  goingAway: 1001,
  policy: 1008,
  tooLarge: 1009,
  failure: 1011,
} as const;
export type CloseCode = (typeof CLOSE)[keyof typeof CLOSE];

/** RFC 6455, 5.5: a close frame holds 125 bytes with its code. */
const CLOSE_REASON_LENGTH_MAX = 120;

/** What a client sends: an object that says what it is; its other fields are not checked yet. */
export interface ClientMessage {
  readonly type: string;
  /** Of a binary message, which is `input`: all of it. */
  readonly bytes?: Uint8Array;
  readonly [field: string]: unknown;
}

export type ServerMessage = { readonly type: string } & Readonly<Record<string, unknown>>;

export interface StreamSocketOptions {
  /** Serves the client. Its end closes the socket, with an error message when it failed. */
  readonly serve: (socket: StreamSocket) => Promise<void>;
  /** Sent beside the pings of the protocol, for clients that cannot see those. */
  readonly pingMessage?: ServerMessage;
  /** Binary messages are input; elsewhere they are none of the protocol. */
  readonly takesBinary: boolean;
  /** Fields of the last error message. */
  readonly errorFields?: Readonly<Record<string, unknown>>;
  readonly log: Log;
  /** Called once, when nothing of it is left. */
  readonly ended: (socket: StreamSocket) => void;
}

/** Of terminal output that is sent compressed: less is one packet as it is. */
const DEFLATE_BYTES_MIN = 1024;

type Socket = ServerWebSocket<unknown>;

export class StreamSocket {
  readonly #options: StreamSocketOptions;
  readonly #inbox = new Inbox<ClientMessage>((isFull) => this.#hold("inbox", isFull));
  readonly #gone = new AbortController();
  /** Why the client is not read at the moment. */
  readonly #holds = new Set<"inbox" | "rate">();
  #socket: Socket | null = null;
  /** Who waits for the client to catch up. */
  #behind: (() => void)[] = [];
  #ticks: ReturnType<typeof setInterval> | undefined;
  #rateTimer: ReturnType<typeof setTimeout> | undefined;
  #messagesThisSecond = 0;
  #badMessages = 0;
  #lastSignAt = performance.now();

  constructor(options: StreamSocketOptions) {
    this.#options = options;
  }

  /** Aborts when the client is gone or was sent away. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** The client's next message in order; null when it is gone or the time is up. */
  async receive(timeoutMs?: number): Promise<ClientMessage | null> {
    return await this.#inbox.next(timeoutMs);
  }

  /** The client's next message if it has arrived and is one of those. */
  takeIf<S extends ClientMessage>(isWanted: (message: ClientMessage) => message is S): S | null {
    return this.#inbox.takeIf(isWanted);
  }

  /** Whether such a message has arrived and waits. */
  hasWaiting(isWanted: (message: ClientMessage) => boolean): boolean {
    return this.#inbox.some(isWanted);
  }

  /** Resolves when there is room for another message, and at once when the client is gone. */
  async send(message: ServerMessage | Uint8Array): Promise<void> {
    if (this.#post(message) !== "behind") return;
    await new Promise<void>((resolve) => this.#behind.push(resolve));
  }

  /** Tells the client what is wrong with its message; one that goes on like that is sent away. */
  async refuse(error: AppError): Promise<void> {
    this.#badMessages += 1;
    if (this.#badMessages >= BAD_MESSAGES_MAX) this.fail(error);
    else await this.send(errorMessage(error));
  }

  /** Says goodbye. What was sent before still goes out. */
  end(code: CloseCode, reason: string): void {
    this.#socket?.close(code, reason.slice(0, CLOSE_REASON_LENGTH_MAX));
    this.#forget();
  }

  /** Says what went wrong, and goodbye. */
  fail(error: unknown): void {
    if (this.gone.aborted) return;
    const known = error instanceof AppError ? error : unforeseen(error);
    const isOurs = known.status >= 500;
    if (isOurs) {
      this.#options.log.error("stream failed", { code: known.code, error: known.cause ?? known });
    }
    this.#post({ ...errorMessage(known), ...this.#options.errorFields });
    this.end(isOurs ? CLOSE.failure : CLOSE.policy, known.code);
  }

  // What the listener calls.

  open(socket: Socket): void {
    this.#socket = socket;
    this.#ticks = setInterval(() => this.#tick(), PING_MS);
    void this.#serve();
  }

  message(_socket: Socket, data: string | Buffer): void {
    this.#lastSignAt = performance.now();
    this.#limitRate();
    if (data.length > MESSAGE_BYTES_MAX) {
      this.end(CLOSE.tooLarge, "the message is too large");
      return;
    }
    const isInput = typeof data !== "string" && this.#options.takesBinary;
    const message = isInput ? { type: "input", bytes: data } : parseMessage(data);
    if (message !== null) {
      this.#inbox.push(message, data.length);
      return;
    }
    const error = new AppError("invalid_request", "a message must be a JSON object with a type");
    void this.refuse(error);
  }

  drain(): void {
    this.#lastSignAt = performance.now();
    this.#release();
  }

  pong(): void {
    this.#lastSignAt = performance.now();
  }

  close(): void {
    this.#forget();
  }

  async #serve(): Promise<void> {
    try {
      await this.#options.serve(this);
      this.end(CLOSE.normal, "");
    } catch (error) {
      this.fail(error);
    }
  }

  #post(message: ServerMessage | Uint8Array): "sent" | "behind" | "gone" {
    if (this.#socket === null || this.gone.aborted) return "gone";
    const result =
      message instanceof Uint8Array
        ? this.#socket.sendBinary(message, message.byteLength >= DEFLATE_BYTES_MIN)
        : this.#socket.sendText(JSON.stringify(message));
    if (result === -1) return "behind";
    // 0 is a message that was dropped: the connection is no more.
    return result === 0 ? "gone" : "sent";
  }

  #tick(): void {
    const isBehind = this.#behind.length > 0 || this.#holds.size > 0;
    const silentMs = performance.now() - this.#lastSignAt;
    if (silentMs > (isBehind ? PEER_STALL_MS_MAX : PEER_SILENCE_MS_MAX)) {
      this.#socket?.terminate();
      this.#forget();
      return;
    }
    this.#socket?.ping();
    const { pingMessage } = this.#options;
    if (pingMessage !== undefined && this.#behind.length === 0) this.#post(pingMessage);
  }

  #limitRate(): void {
    this.#rateTimer ??= setTimeout(() => {
      this.#rateTimer = undefined;
      this.#messagesThisSecond = 0;
      this.#hold("rate", false);
    }, 1000);
    this.#messagesThisSecond += 1;
    if (this.#messagesThisSecond === MESSAGES_PER_SECOND_MAX) this.#hold("rate", true);
  }

  #hold(reason: "inbox" | "rate", isHeld: boolean): void {
    if (isHeld) this.#holds.add(reason);
    else this.#holds.delete(reason);
    if (this.gone.aborted) return;
    if (this.#holds.size > 0) this.#socket?.pause();
    else this.#socket?.resume();
  }

  #release(): void {
    const waiters = this.#behind;
    this.#behind = [];
    for (const resolve of waiters) resolve();
  }

  #forget(): void {
    if (this.gone.aborted) return;
    clearInterval(this.#ticks);
    clearTimeout(this.#rateTimer);
    this.#gone.abort();
    this.#inbox.close();
    this.#release();
    this.#options.ended(this);
  }
}

function parseMessage(data: string | Buffer): ClientMessage | null {
  // Text is JSON.
  if (typeof data !== "string") return null;
  try {
    const parsed = parseBoundedJson(data);
    return isClientMessage(parsed) ? parsed : null;
  } catch {
    return null;
  }
}

function isClientMessage(value: unknown): value is ClientMessage {
  return (
    typeof value === "object" && value !== null && "type" in value && typeof value.type === "string"
  );
}

/** As the API's errors, but for the name of the text, which clients know. */
function errorMessage(error: AppError): ServerMessage {
  const { code, reason, message, retryable } = error.toBody().error;
  return { type: "error", data: message, code, reason, retryable };
}
