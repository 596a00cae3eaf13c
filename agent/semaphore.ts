// How many do something at once; the others wait, each party's in order of arrival. Whoever has the fewest permits
// is next, so that a party with many requests makes its own wait, and not those of others.

import { AgentError } from "./errors.ts";

interface Waiting {
  readonly party: string;
  readonly start: () => void;
}

export class Semaphore {
  readonly #queuedMax: number;
  readonly #refusal: string;
  readonly #heldMsMax: number | null;
  readonly #waiting: Waiting[] = [];
  /** Permits by party. */
  readonly #held = new Map<string, number>();
  #free: number;

  /**
   * `refusal` is the sentence for whom the queue has no room. A permit that is held for longer than `heldMsMax`
   * is given back by itself, while its holder goes on.
   */
  constructor(options: {
    atOnceMax: number;
    queuedMax: number;
    refusal: string;
    heldMsMax?: number;
  }) {
    this.#free = options.atOnceMax;
    this.#queuedMax = options.queuedMax;
    this.#refusal = options.refusal;
    this.#heldMsMax = options.heldMsMax ?? null;
  }

  /** One in which any number may wait. */
  static endless(atOnceMax: number): Semaphore {
    return new Semaphore({ atOnceMax, queuedMax: Number.POSITIVE_INFINITY, refusal: "" });
  }

  /**
   * Waits for a permit; it is given back by disposing it. Throws resource_exhausted if too many wait, or the
   * signal's reason.
   */
  async acquire(signal: AbortSignal, party = ""): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#take(party);
    else await this.#wait(signal, party);
    return this.#permit(party);
  }

  #permit(party: string): Disposable {
    let isHeld = true;
    const giveBack = () => {
      if (isHeld) this.#leave(party);
      isHeld = false;
      clearTimeout(timer);
    };
    // It keeps no program from ending.
    const timer =
      this.#heldMsMax === null ? undefined : setTimeout(giveBack, this.#heldMsMax).unref();
    return { [Symbol.dispose]: giveBack };
  }

  async #wait(signal: AbortSignal, party: string): Promise<void> {
    if (this.#waiting.length >= this.#queuedMax) {
      throw new AgentError("resource_exhausted", this.#refusal, { subject: "host" });
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting: Waiting = { party, start: resolve };
    const leave = () => {
      const index = this.#waiting.indexOf(waiting);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
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

  #take(party: string): void {
    this.#free -= 1;
    this.#held.set(party, this.#heldBy(party) + 1);
  }

  #leave(party: string): void {
    this.#free += 1;
    const left = this.#heldBy(party) - 1;
    if (left > 0) this.#held.set(party, left);
    else this.#held.delete(party);
    const next = this.#takeNext();
    if (next === undefined) return;
    this.#take(next.party);
    next.start();
  }

  #takeNext(): Waiting | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const next = this.#waiting.reduce(
      (best, each) => (this.#heldBy(each.party) < this.#heldBy(best.party) ? each : best),
      first,
    );
    this.#waiting.splice(this.#waiting.indexOf(next), 1);
    return next;
  }

  #heldBy(party: string): number {
    return this.#held.get(party) ?? 0;
  }
}
