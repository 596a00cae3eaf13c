// Looks from time to time for guests that stand still for want of room on the host.

import { STALL_CHECK_MS } from "../limits.ts";
import type { Capsules } from "./capsules.ts";

export class StallTimer implements Disposable {
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(capsules: Capsules) {
    this.#timer = setInterval(() => void capsules.endStalls(), STALL_CHECK_MS);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
