// Work that goes on whatever became of the client that asked for it, until the process must end.

/** Longer than most operations; the next control plane settles within a second or two. */
const STOP_GRACE_MS = 5000;

export class UnderWay implements AsyncDisposable {
  readonly #ending = new AbortController();
  readonly #work = new Set<Promise<unknown>>();

  /** Aborts when the process must end. */
  get ending(): AbortSignal {
    return this.#ending.signal;
  }

  /** The work's outcome; a failure that nobody waits for is no unhandled one. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#work.add(work);
    const forget = () => void this.#work.delete(work);
    work.then(forget, forget);
    return work;
  }

  /** Gives what is under way a moment to end; what does not is left for others to settle. */
  async [Symbol.asyncDispose](): Promise<void> {
    const grace = AbortSignal.timeout(STOP_GRACE_MS);
    grace.addEventListener("abort", () => this.#ending.abort());
    await Promise.allSettled(this.#work);
  }
}
