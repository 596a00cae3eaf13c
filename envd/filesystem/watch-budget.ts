// How many directories can be watched: the kernel's own limit, in relation to the memory that they cost.
import { readFileSync, writeFileSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import { WATCH_MEMORY_BYTES, WATCHED_DIRECTORIES_MAX } from "../limits.ts";

/**
 * The limit of inotify(7) for each user, `max_user_watches`, which the kernel by itself sets to 8192 for
 * any guest below 1 GiB: less than the directories of many a project.
 */
export class WatchBudget {
  readonly #file: string;

  constructor(inotifyDir: string) {
    this.#file = join(inotifyDir, "max_user_watches");
  }

  /** Raises the limit to what the memory is enough for; never lowers it. */
  raise(memoryBytes = totalmem()): void {
    const wanted = Math.min(Math.floor(memoryBytes / WATCH_MEMORY_BYTES), WATCHED_DIRECTORIES_MAX);
    if (wanted > this.#read()) writeFileSync(this.#file, String(wanted));
  }

  /** What one watch may have of it: one large tree leaves room for all others. */
  perWatch(): number {
    return Math.max(1, Math.floor(this.#read() / 2));
  }

  #read(): number {
    return Number(readFileSync(this.#file, "latin1"));
  }
}
