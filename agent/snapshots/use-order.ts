// In which order the entries of a cache were used last, so that the longest unused go first. It is kept as their
// file times, which outlive the agent, but tells no time: each use comes behind all before it, by a millisecond,
// whatever is done to the clock.

import { readdir, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { hasCode } from "../native/syscall-error.ts";

export class UseOrder {
  readonly #dir: string;
  /** Of what the last agent left. */
  #foundMs: Promise<number> | null = null;
  #newestMs = 0;

  /** Of the entries of that directory, which may be made later. */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /** The entry was made, or is used; nothing happens if it has gone. */
  async use(name: string): Promise<void> {
    this.#foundMs ??= newestOf(this.#dir);
    const foundMs = await this.#foundMs;
    this.#newestMs = Math.max(foundMs, this.#newestMs) + 1;
    // A date has whole milliseconds: it is behind the newest time still.
    const at = new Date(this.#newestMs);
    await utimes(join(this.#dir, name), at, at).catch(unlessGone);
  }

  /** Those of the names that there are, the longest unused first. */
  async sort(names: readonly string[]): Promise<string[]> {
    const found = await Promise.all(
      names.map(async (name) => ({ name, usedAtMs: await usedAtMs(join(this.#dir, name)) })),
    );
    return found
      .flatMap(({ name, usedAtMs }) => (usedAtMs === null ? [] : [{ name, usedAtMs }]))
      .sort((a, b) => a.usedAtMs - b.usedAtMs)
      .map(({ name }) => name);
  }
}

async function newestOf(dir: string): Promise<number> {
  const names = (await readdir(dir).catch(unlessGone)) ?? [];
  const times = await Promise.all(names.map((name) => usedAtMs(join(dir, name))));
  return times.reduce<number>((newest, ms) => Math.max(newest, ms ?? 0), 0);
}

/** Null: it has gone. */
async function usedAtMs(path: string): Promise<number | null> {
  return (await stat(path).catch(unlessGone))?.mtimeMs ?? null;
}

function unlessGone(error: unknown): null {
  if (hasCode(error, "ENOENT")) return null;
  throw error;
}
