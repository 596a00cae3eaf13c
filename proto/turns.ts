// Work that comes in many small steps, of which none waits. Whoever sends such steps may send them
// faster than they are taken, and what is there already is taken before any timer or other client has
// its turn.

import { setImmediate } from "node:timers/promises";

/** What the work of one client may hold up everybody else. */
const TURN_MS = 10;

/** One client's turn, which ends when it has taken its time. */
export class Turn {
  #since = performance.now();

  /** Between two steps: resolves at once, or after everybody else's turn when this one is over. */
  async step(): Promise<void> {
    if (performance.now() - this.#since < TURN_MS) return;
    await setImmediate();
    this.#since = performance.now();
  }
}

/** The messages, with a turn of everybody else's in between. */
export async function* inTurns<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  const turn = new Turn();
  for await (const message of messages) {
    yield message;
    await turn.step();
  }
}
