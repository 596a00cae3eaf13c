// The wall clock of one program, set by a test while it runs: native/tests/stepped-clock.c.

import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const LIBRARY = resolve(import.meta.dirname, "../../build/native/tests/stepped-clock.so");

export class SteppedClock implements Disposable {
  readonly #path = join(tmpdir(), `wrenn-clock-${crypto.randomUUID()}`);
  readonly #file = openSync(this.#path, "wx", 0o600);
  #offsetMs = 0;

  constructor() {
    this.set(0);
  }

  /** For the program whose clock it is. */
  get env(): Record<string, string> {
    return { LD_PRELOAD: LIBRARY, STEPPED_CLOCK: this.#path };
  }

  /** How far it is from this machine's from now on. */
  set(offsetMs: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(offsetMs));
    writeSync(this.#file, bytes, 0, bytes.length, 0);
    this.#offsetMs = offsetMs;
  }

  nowMs(): number {
    return Date.now() + this.#offsetMs;
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
    rmSync(this.#path);
  }
}
