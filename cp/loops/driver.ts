// Background loops: the only place with timers.
//
// A loop is one idempotent pass over current state, so tick, wake-up and restart are the same code
// path. A pass takes no input, works in bounded batches and does not retry: the next pass does.
// Several control planes run the same loops at once; what must be done once is claimed in SQL.

import type { Log } from "../log.ts";

/** How far a period varies, so that control planes started together drift apart. */
const JITTER_SHARE = 0.1;

export interface Loop {
  readonly name: string;
  readonly everyMs: number;
  /** Work is what it always has: a pass that did some is no line of the log. */
  readonly isBusy?: boolean;
  /** One pass. Returns what it did, in counts. `signal` aborts when the process is ending. */
  run(signal: AbortSignal): Promise<Record<string, number>>;
}

export interface LoopStatus {
  readonly name: string;
  readonly everyMs: number;
  readonly passes: number;
  readonly failures: number;
  /** Of the last pass; null when it succeeded. */
  readonly lastError: string | null;
  /** Of the last pass that succeeded. */
  readonly lastCounts: Record<string, number>;
  /** What all passes took. */
  readonly seconds: number;
  readonly lastSeconds: number;
  /** Null until the first pass is over. */
  readonly lastEndedAt: Date | null;
}

interface Running {
  readonly loop: Loop;
  readonly done: Promise<void>;
  status: LoopStatus;
  isWoken: boolean;
  wake: () => void;
}

export class LoopDriver implements AsyncDisposable {
  readonly #log: Log;
  readonly #ending = new AbortController();
  readonly #running = new Map<string, Running>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Runs a pass at once and then one per period. Throws when the name is taken. */
  start(loop: Loop): void {
    if (this.#running.has(loop.name)) throw new Error(`loop ${loop.name} is running already`);
    const { name, everyMs } = loop;
    const counters = { passes: 0, failures: 0, seconds: 0, lastSeconds: 0 };
    const last = { lastError: null, lastCounts: {}, lastEndedAt: null };
    const status = { name, everyMs, ...counters, ...last };
    const running: Running = {
      loop,
      status,
      isWoken: false,
      wake: () => {},
      done: Promise.resolve().then(() => this.#drive(running)),
    };
    this.#running.set(loop.name, running);
  }

  /** Asks for a pass now, or right after the one under way; many wake-ups make one pass. */
  wake(name: string): void {
    const running = this.#running.get(name);
    if (running === undefined) throw new Error(`loop ${name} is not running`);
    running.isWoken = true;
    running.wake();
  }

  statuses(): LoopStatus[] {
    return [...this.#running.values()].map(({ status }) => status);
  }

  /** Starts no further pass and waits for those under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    for (const running of this.#running.values()) running.wake();
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  async #drive(running: Running): Promise<void> {
    while (!this.#ending.signal.aborted) {
      running.isWoken = false;
      await this.#pass(running);
      await this.#pause(running);
    }
  }

  async #pass(running: Running): Promise<void> {
    const { loop, status } = running;
    const { passes, failures, lastError } = status;
    const startedAt = performance.now();
    const ended = () => {
      const lastSeconds = (performance.now() - startedAt) / 1000;
      const seconds = status.seconds + lastSeconds;
      return { ...status, passes: passes + 1, seconds, lastSeconds, lastEndedAt: new Date() };
    };
    try {
      const counts = await loop.run(this.#ending.signal);
      running.status = { ...ended(), lastError: null, lastCounts: counts };
      if (lastError !== null) this.#log.info("loop works again", { loop: loop.name });
      if (loop.isBusy !== true && Object.values(counts).some((count) => count > 0)) {
        this.#log.info("loop pass", { loop: loop.name, ...counts });
      }
    } catch (error) {
      const text = String(error);
      running.status = { ...ended(), failures: failures + 1, lastError: text };
      // A lasting failure is one line, not one per pass.
      if (text !== lastError) this.#log.error("loop pass failed", { loop: loop.name, error });
    }
  }

  async #pause(running: Running): Promise<void> {
    if (running.isWoken || this.#ending.signal.aborted) return;
    const jitter = 1 + JITTER_SHARE * (2 * Math.random() - 1);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, running.loop.everyMs * jitter);
      running.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    running.wake = () => {};
  }
}
