// Messages of a client that wait for their reader: in order, none dropped, bounded by a promise to the
// connection, which is not read while they are too many.

import { INBOX_BYTES_MAX, INBOX_MESSAGES_MAX } from "./limits.ts";

interface Waiting<T> {
  readonly item: T;
  readonly sizeBytes: number;
}

export class Inbox<T> {
  #waiting: Waiting<T>[] = [];
  #sizeBytes = 0;
  #isClosed = false;
  #reader: (() => void) | null = null;
  readonly #fullnessChanged: (isFull: boolean) => void;
  #isFull = false;

  constructor(fullnessChanged: (isFull: boolean) => void) {
    this.#fullnessChanged = fullnessChanged;
  }

  push(item: T, sizeBytes: number): void {
    if (this.#isClosed) return;
    this.#waiting.push({ item, sizeBytes });
    this.#sizeBytes += sizeBytes;
    this.#noteFullness();
    this.#wake();
  }

  /** The next item, once there is one; null when no more can come or the time is up. */
  async next(timeoutMs?: number): Promise<T | null> {
    if (this.#waiting.length === 0 && !this.#isClosed) await this.#change(timeoutMs);
    return this.#take();
  }

  /** The next item if it is there and one of those. */
  takeIf<S extends T>(isWanted: (item: T) => item is S): S | null {
    const first = this.#waiting[0]?.item;
    if (first === undefined || !isWanted(first)) return null;
    this.#take();
    return first;
  }

  some(isWanted: (item: T) => boolean): boolean {
    return this.#waiting.some(({ item }) => isWanted(item));
  }

  /** Nothing more comes; what waits can still be read. */
  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  #take(): T | null {
    const taken = this.#waiting.shift();
    if (taken === undefined) return null;
    this.#sizeBytes -= taken.sizeBytes;
    this.#noteFullness();
    return taken.item;
  }

  #change(timeoutMs: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      const timer = timeoutMs === undefined ? undefined : setTimeout(resolve, timeoutMs);
      this.#reader = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #wake(): void {
    this.#reader?.();
    this.#reader = null;
  }

  /** Full at the bound, and no more at half of it, so that a connection does not flutter. */
  #noteFullness(): void {
    const share = Math.max(
      this.#sizeBytes / INBOX_BYTES_MAX,
      this.#waiting.length / INBOX_MESSAGES_MAX,
    );
    const isFull = this.#isFull ? share > 0.5 : share >= 1;
    if (isFull === this.#isFull) return;
    this.#isFull = isFull;
    this.#fullnessChanged(isFull);
  }
}
