// How many do something at once; the others wait in order of arrival.

import { AgentError } from "./errors.ts";

interface Waiting {
  readonly start: () => void;
}

export class Semaphore {
  readonly #queuedMax: number;
  readonly #refusal: string;
  readonly #waiting: Waiting[] = [];
  #free: number;

  /** `refusal` is the sentence for whom the queue has no room. */
  constructor(options: { atOnceMax: number; queuedMax: number; refusal: string }) {
    this.#free = options.atOnceMax;
    this.#queuedMax = options.queuedMax;
    this.#refusal = options.refusal;
  }

  /** One in which any number may wait. */
  static endless(atOnceMax: number): Semaphore {
    return new Semaphore({ atOnceMax, queuedMax: Number.POSITIVE_INFINITY, refusal: "" });
  }

  /**
   * Waits for a permit, in order of arrival; it is given back by disposing it. Throws
   * resource_exhausted if too many wait, or the signal's reason.
   */
  async acquire(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#wait(signal);
    return { [Symbol.dispose]: () => this.#leave() };
  }

  async #wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting.length >= this.#queuedMax) {
      throw new AgentError("resource_exhausted", this.#refusal, { subject: "host" });
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting: Waiting = { start: resolve };
    const leave = () => {
      const index = this.#waiting.indexOf(waiting);
      if (index >= 0) this.#waiting.splice(index, 1);
      reject(signal.reason);
    };
    this.#waiting.push(waiting);
    signal.addEventListener("abort", leave, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next) next.start();
    else this.#free += 1;
  }
}
