// Looks from time to time for capsules whose timeout has passed without anybody using them.

import { EXPIRY_CHECK_MS } from "../limits.ts";
import type { Log } from "../log.ts";
import type { Capsules } from "./capsules.ts";

export class ExpiryTimer implements Disposable {
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(capsules: Capsules, log: Log) {
    this.#timer = setInterval(() => {
      void capsules.expire().catch((error: unknown) => log.error("expiry.failed", { error }));
    }, EXPIRY_CHECK_MS);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
