// Watches for clients that ask for changes now and then instead of holding a stream open.
import { EnvdError } from "../errors.ts";
import { WATCHER_CHANGES_MAX } from "../limits.ts";
import type { Change, DirectoryWatch } from "./directory-watch.ts";

interface PolledWatcher {
  readonly path: string;
  readonly watch: DirectoryWatch;
  changes: Change[];
  error: EnvdError | null;
}

/** The watchers by their id. What is not asked for has a bound; beyond it changes are lost, aloud. */
export class PolledWatchers {
  readonly #watchers = new Map<string, PolledWatcher>();

  /** Keeps the changes of the watch; returns the watcher's id. */
  add(path: string, watch: DirectoryWatch): string {
    const id = `w-${crypto.randomUUID()}`;
    const watcher: PolledWatcher = { path, watch, changes: [], error: null };
    this.#watchers.set(id, watcher);
    void collect(watcher);
    return id;
  }

  /** The changes since the last call. resource_exhausted, once, when some were lost. */
  take(id: string): { path: string; changes: Change[] } {
    const watcher = this.#find(id);
    const { path, changes, error } = watcher;
    watcher.changes = [];
    watcher.error = null;
    if (error !== null) throw error;
    return { path, changes };
  }

  /** Ends the watcher; not_found when there is none. */
  remove(id: string): void {
    this.#find(id).watch.close();
    this.#watchers.delete(id);
  }

  #find(id: string): PolledWatcher {
    const watcher = this.#watchers.get(id);
    if (!watcher) throw new EnvdError("not_found", `watcher '${id}' does not exist`);
    return watcher;
  }
}

async function collect(watcher: PolledWatcher): Promise<void> {
  for (;;) {
    const change = await nextOf(watcher);
    if (change === null) return;
    if (change === "lost") continue;
    if (watcher.changes.length < WATCHER_CHANGES_MAX) watcher.changes.push(change);
    else watcher.error = lostError();
  }
}

async function nextOf(watcher: PolledWatcher): Promise<Change | "lost" | null> {
  try {
    return await watcher.watch.next();
  } catch (error) {
    if (!(error instanceof EnvdError)) throw error;
    watcher.error = error;
    return "lost";
  }
}

function lostError(): EnvdError {
  return new EnvdError(
    "resource_exhausted",
    `more than ${WATCHER_CHANGES_MAX} changes came since the last call; the later ones are lost`,
  );
}
