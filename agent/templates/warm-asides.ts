// Warm snapshots that did not work, set aside for somebody to look at: the newest few. An agent may be killed
// between any two steps: what is set aside is where it was or here, and what is too much goes with the next one
// or at the next start.

import { mkdir, readdir, rename } from "node:fs/promises";
import { basename, join } from "node:path";
import type { HostParts } from "../machine/host-parts.ts";
import { hasCode } from "../native/syscall-error.ts";
import type { Snapshots } from "../snapshots/snapshots.ts";

const ASIDES_MAX = 2;
/** `<milliseconds>-<name>`: when that was found, or later than the one before. */
const NAME = /^(\d+)-/;

type AsideParts = Pick<HostParts, "log" | "now"> & { snapshots: Pick<Snapshots, "remove"> };

export class WarmAsides {
  readonly #parts: AsideParts;
  readonly #dir: string;

  /** `dir` is $WRENN_DIR/warm/aside. */
  constructor(parts: AsideParts, dir: string) {
    this.#parts = parts;
    this.#dir = dir;
  }

  /** Removes what crashes left: what is too much, whole or half removed. MUST be called before anything else. */
  async sweep(): Promise<void> {
    await this.#removeOld();
  }

  /** Never throws: what cannot be set aside costs the next create a boot, too. */
  async setAside(directory: string, error: unknown): Promise<void> {
    const { log } = this.#parts;
    log.warn("warm.set-aside", { directory, error });
    try {
      await mkdir(this.#dir, { recursive: true, mode: 0o700 });
      await rename(directory, join(this.#dir, `${await this.#nextStamp()}-${basename(directory)}`));
      await this.#removeOld();
    } catch (cause) {
      // Another create found the same.
      if (!hasCode(cause, "ENOENT")) log.error("warm.not-aside", { directory, error: cause });
    }
  }

  /** Behind all others, whatever was done to the clock. */
  async #nextStamp(): Promise<number> {
    const last = stampOf((await this.#names()).at(-1) ?? "");
    return Math.max(this.#parts.now().getTime(), last + 1);
  }

  async #removeOld(): Promise<void> {
    for (const name of (await this.#names()).slice(0, -ASIDES_MAX)) {
      await this.#parts.snapshots.remove(join(this.#dir, name));
    }
  }

  /** The oldest first; none if there is no directory. */
  async #names(): Promise<string[]> {
    const names = await readdir(this.#dir).catch((error: unknown) => {
      if (hasCode(error, "ENOENT")) return [];
      throw error;
    });
    return names.filter((name) => NAME.test(name)).sort((a, b) => stampOf(a) - stampOf(b));
  }
}

function stampOf(name: string): number {
  return Number(NAME.exec(name)?.[1] ?? 0);
}
