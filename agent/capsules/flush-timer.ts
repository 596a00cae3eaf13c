// Writes the activity clock to the journal from time to time.

import { ACTIVITY_FLUSH_MS } from "../limits.ts";
import type { Capsules } from "./capsules.ts";

export class FlushTimer implements Disposable {
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(capsules: Capsules) {
    this.#timer = setInterval(() => capsules.flush(), ACTIVITY_FLUSH_MS);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
