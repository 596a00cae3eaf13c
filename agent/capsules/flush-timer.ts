// Writes the activity clock to the journal from time to time, and removes then what could not be removed before:
// mostly it was the journal, on a full disk, that could not be told that it is gone.

import { ACTIVITY_FLUSH_MS } from "../limits.ts";
import type { Capsules } from "./capsules.ts";

export class FlushTimer implements Disposable {
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(capsules: Capsules) {
    this.#timer = setInterval(() => {
      if (capsules.flush()) void capsules.removeDoomed();
    }, ACTIVITY_FLUSH_MS);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
