// How many capsules boot at once. A boot is bound by the CPU: more of them than cores make all of them
// late, and the last ones time out.

import { AgentError } from "../errors.ts";

interface Waiting {
  readonly start: () => void;
}

export class BootQueue {
  readonly #queuedMax: number;
  readonly #waiting: Waiting[] = [];
  #free: number;

  constructor(options: { atOnceMax: number; queuedMax: number }) {
    this.#free = options.atOnceMax;
    this.#queuedMax = options.queuedMax;
  }

  /**
   * Waits for its turn, in order of arrival; the place is given back by disposing it. Throws
   * resource_exhausted if too many wait, or the signal's reason.
   */
  async enter(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#wait(signal);
    return { [Symbol.dispose]: () => this.#leave() };
  }

  async #wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting.length >= this.#queuedMax) {
      throw new AgentError("resource_exhausted", "Too many capsules wait for their start", {
        subject: "host",
      });
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
