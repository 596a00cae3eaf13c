// What capsules used, on disk: for those at rest, and for those that run on while the agent is replaced.

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MetricHistory } from "./metric-history.ts";

/** A file each, of 55 KiB at most. They are small, so that reading or writing one holds nobody up. */
export class MetricStore {
  readonly #dir: string;
  readonly #ids: Set<string>;

  /** Makes the directory if it is missing. */
  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#ids = new Set(readdirSync(dir));
  }

  /** Replaces what was there. Throws what the file system does; what was there is then still there. */
  save(id: string, history: MetricHistory): void {
    const path = join(this.#dir, id);
    const values = history.toNumbers();
    this.#ids.add(`${id}.new`);
    writeFileSync(`${path}.new`, new Uint8Array(values.buffer), { mode: 0o600 });
    renameSync(`${path}.new`, path);
    this.#ids.delete(`${id}.new`);
    this.#ids.add(id);
  }

  /** Null when nothing of use is there. Throws what the file system does. */
  load(id: string): MetricHistory | null {
    if (!this.#ids.has(id)) return null;
    const bytes = readFileSync(join(this.#dir, id));
    if (bytes.length % Float64Array.BYTES_PER_ELEMENT !== 0) return null;
    return MetricHistory.fromNumbers(new Float64Array(new Uint8Array(bytes).buffer));
  }

  /** Removes what is of no capsule that is left. */
  keepOnly(ids: ReadonlySet<string>): void {
    for (const id of this.#ids) {
      if (ids.has(id)) continue;
      rmSync(join(this.#dir, id), { force: true });
      this.#ids.delete(id);
    }
  }
}
