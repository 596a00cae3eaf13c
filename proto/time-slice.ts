// Work that comes in many small steps, of which none waits. Whoever sends such steps may send them
// faster than they are taken, and what is there already is taken before any timer or other client is
// looked at.

import { setImmediate } from "node:timers/promises";

/** What the work of one client may hold up everybody else. */
const SLICE_MS = 10;

/** The time that one client's work may take in one go. */
export class TimeSlice {
  #since = performance.now();

  get isOver(): boolean {
    return performance.now() - this.#since >= SLICE_MS;
  }

  /** Between two steps: resolves at once, or once the event loop has gone round, when the slice is over. */
  async step(): Promise<void> {
    if (this.isOver) await this.next();
  }

  /** Before a step that may take a slice by itself: resolves once the event loop has gone round. */
  async next(): Promise<void> {
    await setImmediate();
    this.#since = performance.now();
  }
}

/** The messages, taken in slices. */
export async function* inSlices<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  const slice = new TimeSlice();
  for await (const message of messages) {
    yield message;
    await slice.step();
  }
}
