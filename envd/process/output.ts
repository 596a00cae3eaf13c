// What a process prints, on its way to any number of readers.
//
// Events stand in one queue; each reader has its own place in it. The process is read only while its
// fastest reader is less than a window behind, so that one slow reader makes the process wait and
// memory stays bounded. With several readers the fastest sets the pace: one that falls a longer way
// behind the others is ended with an error, never given a gap. Without a reader output is dropped,
// except for a terminal's scrollback.
import { EnvdError } from "../errors.ts";
import {
  OUTPUT_EVENT_BYTES_MAX,
  OUTPUT_LAG_BYTES_MAX,
  OUTPUT_WINDOW_BYTES,
  SUBSCRIBERS_MAX,
} from "../limits.ts";

export type OutputKind = "stdout" | "stderr" | "pty";

export interface DataEvent {
  readonly kind: OutputKind;
  readonly bytes: Uint8Array;
}

export interface EndEvent {
  readonly kind: "end";
  readonly exitCode: number;
  readonly signal: string | null;
}

export type OutputEvent = DataEvent | EndEvent;

const NEWLINE = 0x0a;

interface Chunk extends DataEvent {
  /** Bytes of output before this chunk, since the process began. */
  readonly offset: number;
}

/** The output of one process. */
export class Output {
  #chunks: Chunk[] = [];
  #offset = 0;
  #end: EndEvent | null = null;
  readonly #subscriptions = new Set<Subscription>();
  #roomWaiters: (() => void)[] = [];
  readonly #scrollbackBytesMax: number;
  #scrollback: DataEvent[] = [];
  #scrollbackBytes = 0;

  /** Keeps that much of the past for readers that want it. */
  constructor(options: { scrollbackBytesMax: number }) {
    this.#scrollbackBytesMax = options.scrollbackBytesMax;
  }

  get end(): EndEvent | null {
    return this.#end;
  }

  /**
   * A reader of everything from now on, after what is kept of the past when it wants that.
   * resource_exhausted when there are too many.
   */
  subscribe(options: { wantsScrollback: boolean } = { wantsScrollback: false }): Subscription {
    if (this.#subscriptions.size >= SUBSCRIBERS_MAX) {
      throw new EnvdError("resource_exhausted", `process: has ${SUBSCRIBERS_MAX} readers already`);
    }
    const past = options.wantsScrollback ? this.#pastFromLineStart() : [];
    const subscription = new Subscription(this, { offset: this.#offset, past });
    this.#subscriptions.add(subscription);
    return subscription;
  }

  /** Resolves when the process may print more: at once, unless every reader is a window behind. */
  async room(): Promise<void> {
    while (!this.#hasRoom()) {
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
    }
  }

  append(kind: OutputKind, bytes: Uint8Array): void {
    if (this.#end !== null || bytes.length === 0) return;
    if (this.#subscriptions.size > 0) {
      this.#chunks.push({ kind, bytes, offset: this.#offset });
    }
    this.#offset += bytes.length;
    this.#remember({ kind, bytes });
    for (const subscription of this.#subscriptions) {
      if (this.#offset - subscription.offset > OUTPUT_LAG_BYTES_MAX) subscription.cutOff();
      subscription.wake();
    }
  }

  /** The last event. What is appended later is dropped. */
  finish(end: EndEvent): void {
    this.#end = end;
    for (const subscription of this.#subscriptions) subscription.wake();
    this.#wakeRoom();
  }

  /** The next event for a reader at that offset, or null when nothing has come yet. */
  take(offset: number): OutputEvent | null {
    const first = this.#chunks.findIndex((chunk) => chunk.offset >= offset);
    const chunk = first < 0 ? undefined : this.#chunks[first];
    if (chunk === undefined) return offset >= this.#offset ? this.#end : null;
    return this.#joined(first, chunk);
  }

  /** Called by a subscription when its place changed or it ended. */
  release(subscription: Subscription, isClosed: boolean): void {
    if (isClosed) this.#subscriptions.delete(subscription);
    this.#trim();
    if (this.#hasRoom()) this.#wakeRoom();
  }

  #remember(event: DataEvent): void {
    if (this.#scrollbackBytesMax === 0) return;
    this.#scrollback.push(event);
    this.#scrollbackBytes += event.bytes.length;
    while (this.#scrollbackBytes > this.#scrollbackBytesMax) {
      this.#scrollbackBytes -= this.#scrollback.shift()?.bytes.length ?? 0;
    }
  }

  /** What is kept; when its beginning is lost, from a line's start: half a sequence shows garbage. */
  #pastFromLineStart(): DataEvent[] {
    const [first, ...rest] = this.#scrollback;
    if (first === undefined || this.#scrollbackBytes === this.#offset) return [...this.#scrollback];
    const bytes = first.bytes.subarray(first.bytes.indexOf(NEWLINE) + 1);
    return [{ kind: first.kind, bytes }, ...rest];
  }

  /** The chunk with the following ones of its kind, up to the size of one event. */
  #joined(first: number, chunk: Chunk): DataEvent {
    const parts = [chunk.bytes];
    let bytes = chunk.bytes.length;
    for (let i = first + 1; ; i++) {
      const next = this.#chunks[i];
      if (next?.kind !== chunk.kind || bytes + next.bytes.length > OUTPUT_EVENT_BYTES_MAX) break;
      parts.push(next.bytes);
      bytes += next.bytes.length;
    }
    return { kind: chunk.kind, bytes: parts.length === 1 ? chunk.bytes : Buffer.concat(parts) };
  }

  #hasRoom(): boolean {
    if (this.#subscriptions.size === 0 || this.#end !== null) return true;
    for (const subscription of this.#subscriptions) {
      if (this.#offset - subscription.offset < OUTPUT_WINDOW_BYTES) return true;
    }
    return false;
  }

  #wakeRoom(): void {
    const waiters = this.#roomWaiters;
    this.#roomWaiters = [];
    for (const wake of waiters) wake();
  }

  #trim(): void {
    let oldest = this.#offset;
    for (const subscription of this.#subscriptions) {
      oldest = Math.min(oldest, subscription.offset);
    }
    const keepFrom = this.#chunks.findIndex((chunk) => chunk.offset >= oldest);
    this.#chunks.splice(0, keepFrom < 0 ? this.#chunks.length : keepFrom);
  }
}

/** One reader's place in the output. */
export class Subscription {
  /** Bytes of output before this reader's next event. */
  offset: number;
  readonly #output: Output;
  readonly #past: DataEvent[];
  #isCutOff = false;
  #isClosed = false;
  #waiter: (() => void) | null = null;

  constructor(output: Output, from: { offset: number; past: DataEvent[] }) {
    this.#output = output;
    this.offset = from.offset;
    this.#past = from.past;
  }

  /**
   * The next event; null when none came within the time or the reader was closed meanwhile. After
   * the end event there is nothing more to ask for. resource_exhausted when the reader was cut off.
   */
  async next(timeoutMs: number): Promise<OutputEvent | null> {
    let event = this.#take();
    if (event === null && !this.#isClosed) {
      await this.#wait(timeoutMs);
      event = this.#take();
    }
    return event;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#output.release(this, true);
    this.wake();
  }

  cutOff(): void {
    this.#isCutOff = true;
    this.close();
  }

  wake(): void {
    this.#waiter?.();
  }

  #take(): OutputEvent | null {
    if (this.#isCutOff) {
      throw new EnvdError(
        "resource_exhausted",
        `this reader fell ${OUTPUT_LAG_BYTES_MAX} bytes behind another one of the process`,
      );
    }
    if (this.#isClosed) return null;
    const past = this.#past.shift();
    if (past !== undefined) return past;
    const event = this.#output.take(this.offset);
    if (event !== null && event.kind !== "end") {
      this.offset += event.bytes.length;
      this.#output.release(this, false);
    }
    return event;
  }

  #wait(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#waiter?.(), timeoutMs);
      this.#waiter = () => {
        clearTimeout(timer);
        this.#waiter = null;
        resolve();
      };
    });
  }
}
