// Memory that a program holds on behalf of others, bounded in sum: of one capsule, of one team, of the
// whole program. What one call may hold is bounded where it is read; here is how much that may be together.

export interface Payer {
  /** Whose bytes they are: equal values pay together. */
  readonly key: unknown;
  readonly bytesMax: number;
  /** What a taker is told that would exceed it. */
  readonly refuse: () => Error;
}

export class ByteBudgets {
  /** Of payers that hold something. */
  readonly #held = new Map<unknown, number>();

  /** Bytes that are taken for the payer now. */
  heldFor(key: unknown): number {
    return this.#held.get(key) ?? 0;
  }

  /** Nothing yet; what it takes is taken for each of the payers. */
  hold(payers: readonly Payer[]): HeldBytes {
    const change = (bytes: number) => {
      for (const { key } of payers) {
        const held = this.heldFor(key) + bytes;
        if (held === 0) this.#held.delete(key);
        else this.#held.set(key, held);
      }
    };
    const exceeded = (bytes: number) =>
      payers.find(({ key, bytesMax }) => this.heldFor(key) + bytes > bytesMax);
    return new HeldBytes(exceeded, change);
  }
}

/** The bytes of one call, all given back by disposing it, however often. */
export class HeldBytes implements Disposable {
  readonly #exceeded: (bytes: number) => Payer | undefined;
  readonly #change: (bytes: number) => void;
  #bytes = 0;
  #isOver = false;

  /** Made by `ByteBudgets.hold`. */
  constructor(exceeded: (bytes: number) => Payer | undefined, change: (bytes: number) => void) {
    this.#exceeded = exceeded;
    this.#change = change;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Takes so many more for every payer, or none at all: throws what the first refuses with that would
   * exceed its bound. After the end nothing is taken: what comes then is dropped.
   */
  take(bytes: number): void {
    if (this.#isOver) return;
    const payer = this.#exceeded(bytes);
    if (payer !== undefined) throw payer.refuse();
    this.#bytes += bytes;
    this.#change(bytes);
  }

  /** What it was taken for has become so many bytes, asked or not. */
  become(bytes: number): void {
    if (this.#isOver) return;
    this.#change(bytes - this.#bytes);
    this.#bytes = bytes;
  }

  [Symbol.dispose](): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#change(-this.#bytes);
    this.#bytes = 0;
  }
}
