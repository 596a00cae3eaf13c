// What calls to all guests may take of the agent together.
// How many long-lived calls to guests the agent holds open at once: each takes one of the program's
// HTTP connections, and without a bound a few busy capsules would leave none for the others.

import { ByteBudgets } from "../../proto/byte-budget.ts";
import { AgentError } from "../errors.ts";
import { UPLOADS_AHEAD_MAX } from "../limits.ts";

export class StreamBudget {
  /** What is held of their answers. */
  readonly bytes = new ByteBudgets();
  #ahead = 0;
  readonly #max: number;
  #free: number;

  constructor(max: number) {
    this.#max = max;
    this.#free = max;
  }

  /** Places that are taken. */
  get taken(): number {
    return this.#max - this.#free;
  }

  /**
   * Room for one upload to have pieces here before its guest wants them, given back by disposing it; null: others
   * have it all, and this upload brings each piece when it is wanted.
   */
  takeAhead(): Disposable | null {
    if (this.#ahead === UPLOADS_AHEAD_MAX) return null;
    this.#ahead += 1;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#ahead -= 1;
      },
    };
  }

  /** A place, given back by disposing it; `resource_exhausted` if none is free. */
  take(): Disposable {
    if (this.#free === 0) {
      throw new AgentError("resource_exhausted", "The host runs too many commands at once", {
        subject: "host",
      });
    }
    this.#free -= 1;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#free += 1;
      },
    };
  }
}
