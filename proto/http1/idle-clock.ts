// A coarse clock for idle timeouts: one timer for all connections, instead of one set anew per packet.

const TICK_MS = 1_000;

export interface Ticking {
  /** Once a tick. */
  tick(nowMs: number): void;
}

export class IdleClock implements Disposable {
  nowMs = performance.now();
  readonly #ticking = new Set<Ticking>();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor() {
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  get size(): number {
    return this.#ticking.size;
  }

  add(ticking: Ticking): void {
    this.#ticking.add(ticking);
  }

  remove(ticking: Ticking): void {
    this.#ticking.delete(ticking);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    this.nowMs = performance.now();
    for (const ticking of [...this.#ticking]) ticking.tick(this.nowMs);
  }
}
