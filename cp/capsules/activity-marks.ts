// When this control plane last wrote down that a capsule is used: a busy one is not written for each call.

/** The recorded time of last activity is informational; a busy capsule writes this often. */
const RESOLUTION_MS = 5000;
/** Of capsules in use at once; past that all of them are forgotten, which costs a write each. */
const MARKS_MAX = 20_000;

export class ActivityMarks {
  readonly #monotonicMs: () => number;
  readonly #writtenAtMs = new Map<string, number>();

  /** `monotonicMs`: a clock that nobody sets, and of this process, as the marks are. */
  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
  }

  /** Whether a use now has to be written; then it counts as written. */
  isDue(capsuleId: string): boolean {
    const nowMs = this.#monotonicMs();
    const lastMs = this.#writtenAtMs.get(capsuleId);
    if (lastMs !== undefined && nowMs - lastMs <= RESOLUTION_MS) return false;
    if (this.#writtenAtMs.size >= MARKS_MAX) this.#writtenAtMs.clear();
    this.#writtenAtMs.set(capsuleId, nowMs);
    return true;
  }
}
