// When each capsule was last used. The agent owns this clock because it sees all traffic, with the
// control plane up or down, and pauses by it what nobody has used for its timeout.
//
// It measures by a clock that nobody sets: a step of the host's time would make every capsule look
// unused. Only over a restart of the agent, whose journal has dates, does a step count.

export class ActivityClock {
  readonly #now: () => Date;
  readonly #monotonicMs: () => number;
  /** By the monotonic clock; before its zero for one used before the agent started. */
  readonly #lastAtMs = new Map<string, number>();
  readonly #holds = new Map<string, number>();
  readonly #unsaved = new Set<string>();

  constructor(clocks: { now: () => Date; monotonicMs: () => number }) {
    this.#now = clocks.now;
    this.#monotonicMs = clocks.monotonicMs;
  }

  /** Begins to keep time for the capsule. A time that is still to come counts as now. */
  start(id: string, lastActiveAt: Date): void {
    const idleMs = Math.max(0, this.#now().getTime() - lastActiveAt.getTime());
    this.#lastAtMs.set(id, this.#monotonicMs() - idleMs);
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

  /** For how long nobody has used it; 0 of one that is in use, or of which no time is kept. */
  idleMs(id: string): number {
    const lastAtMs = this.#holds.has(id) ? undefined : this.#lastAtMs.get(id);
    return lastAtMs === undefined ? 0 : this.#monotonicMs() - lastAtMs;
  }

  lastActiveAt(id: string): Date {
    return new Date(this.#now().getTime() - this.idleMs(id));
  }

  forget(id: string): void {
    this.#lastAtMs.delete(id);
    this.#unsaved.delete(id);
  }

  /** Has what changed since the last time written; if that throws, it is written the next time. */
  save(write: (times: ReadonlyMap<string, Date>) => void): void {
    const ids = new Set([...this.#unsaved, ...this.#holds.keys()]);
    if (ids.size === 0) return;
    write(new Map([...ids].map((id) => [id, this.lastActiveAt(id)])));
    this.#unsaved.clear();
  }

  #touch(id: string): void {
    // A call may end after its capsule did.
    if (!this.#lastAtMs.has(id)) return;
    this.#lastAtMs.set(id, this.#monotonicMs());
    this.#unsaved.add(id);
  }
}
