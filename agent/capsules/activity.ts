// When each capsule was last used. The agent owns this clock because it sees all traffic, with the
// control plane up or down, and pauses by it what nobody has used for its timeout.

export class ActivityClock {
  readonly #now: () => Date;
  readonly #lastAt = new Map<string, Date>();
  readonly #holds = new Map<string, number>();
  readonly #unsaved = new Set<string>();

  constructor(now: () => Date) {
    this.#now = now;
  }

  /** Begins to keep time for the capsule. */
  start(id: string, lastActiveAt: Date): void {
    this.#lastAt.set(id, lastActiveAt);
  }

  /** The capsule is in use until the answer is disposed: a long command is activity all along. */
  hold(id: string): Disposable {
    this.#holds.set(id, (this.#holds.get(id) ?? 0) + 1);
    this.#touch(id);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#holds.get(id) ?? 1) - 1;
        if (left > 0) this.#holds.set(id, left);
        else this.#holds.delete(id);
        this.#touch(id);
      },
    };
  }

  lastActiveAt(id: string): Date {
    return this.#holds.has(id) ? this.#now() : (this.#lastAt.get(id) ?? this.#now());
  }

  forget(id: string): void {
    this.#lastAt.delete(id);
    this.#unsaved.delete(id);
  }

  /** What has changed since the last call. */
  takeUnsaved(): ReadonlyMap<string, Date> {
    const ids = new Set([...this.#unsaved, ...this.#holds.keys()]);
    this.#unsaved.clear();
    return new Map([...ids].map((id) => [id, this.lastActiveAt(id)]));
  }

  #touch(id: string): void {
    // A call may end after its capsule did.
    if (!this.#lastAt.has(id)) return;
    this.#lastAt.set(id, this.#now());
    this.#unsaved.add(id);
  }
}
