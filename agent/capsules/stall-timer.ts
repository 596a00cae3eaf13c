// Looks from time to time for guests that stand still for want of room on the host.

import { HOLD_CHECK_MS, STALL_CHECK_MS } from "../limits.ts";
import type { RootDisks } from "../rootfs/root-disks.ts";
import type { Capsules } from "./capsules.ts";

export class StallTimer implements Disposable {
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(capsules: Capsules, { losesWrites }: Pick<RootDisks, "losesWrites">) {
    const everyMs = losesWrites ? HOLD_CHECK_MS : STALL_CHECK_MS;
    this.#timer = setInterval(() => void capsules.endStalls(), everyMs);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
