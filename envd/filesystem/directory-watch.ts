// What happens in a directory, as native/guest/watch.c tells it.
import type { Stats } from "node:fs";
import { stat, statfs } from "node:fs/promises";
import { EventType } from "../../proto/gen/envd/filesystem_pb.js";
import { EnvdError, errnoOf, fileError } from "../errors.ts";
import { shownName, systemName } from "../file-names.ts";
import { WATCH_RECORD_BYTES_MAX, WATCHES_MAX } from "../limits.ts";
import type { WatchBudget } from "./watch-budget.ts";

/** File systems whose other users' changes this kernel does not see: NFS, CIFS, SMB2, FUSE. */
const NETWORK_FILE_SYSTEMS = new Set([0x6969, 0xff534d42, 0xfe534d42, 0x65735546]);

const EVENT_TYPES: Readonly<Record<string, EventType>> = {
  C: EventType.CREATE,
  W: EventType.WRITE,
  A: EventType.CHMOD,
  D: EventType.REMOVE,
  R: EventType.RENAME,
};

export interface Change {
  readonly type: EventType;
  /** Relative to the watched directory; "." is itself, which then has gone. */
  readonly name: string;
}

export interface WatchOptions {
  readonly isRecursive: boolean;
  readonly allowsNetworkMounts: boolean;
}

/**
 * Opens watches. Each is a process of its own, so that a large tree costs nobody but its watcher, and
 * has at most half of what the kernel allows all of them, which is apart from what it allows root.
 */
export class Watches {
  readonly #program: string;
  readonly #budget: WatchBudget;
  #openCount = 0;

  constructor(programsDir: string, budget: WatchBudget) {
    this.#program = `${programsDir}/watch`;
    this.#budget = budget;
  }

  /**
   * Watches the directory: everything after the return is told. not_found or invalid_argument when
   * there is none, failed_precondition on a network mount, resource_exhausted when too many are open.
   */
  async open(path: string, options: WatchOptions): Promise<DirectoryWatch> {
    const found = await statOrNull(path);
    if (found === null) throw new EnvdError("not_found", `path '${path}' does not exist`);
    if (!found.isDirectory()) {
      throw new EnvdError("invalid_argument", `path '${path}' is not a directory`);
    }
    if (!options.allowsNetworkMounts && (await isNetworkMount(path))) {
      throw new EnvdError("failed_precondition", `path '${path}' lies on a network mount`);
    }
    if (this.#openCount >= WATCHES_MAX) {
      throw new EnvdError("resource_exhausted", `${WATCHES_MAX} watches are open already`);
    }
    this.#openCount++;
    const watch = new DirectoryWatch([
      this.#program,
      ...(options.isRecursive ? ["--recursive"] : []),
      ...[String(this.#budget.perWatch()), path],
    ]);
    void watch.closed.then(() => this.#openCount--);
    await watch.started();
    return watch;
  }
}

/** What the path leads to, or null when that does not exist. */
async function statOrNull(path: string): Promise<Stats | null> {
  try {
    return await stat(systemName(path));
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return null;
    throw fileError(error, path);
  }
}

async function isNetworkMount(path: string): Promise<boolean> {
  try {
    return NETWORK_FILE_SYSTEMS.has((await statfs(systemName(path))).type);
  } catch (error) {
    throw fileError(error, path);
  }
}

/** One open watch. Its reader sets the pace: what waits, waits in the kernel's bounded queue. */
export class DirectoryWatch {
  /** Resolves when the watch has ended, by `close` or because the directory has gone. */
  readonly closed: Promise<void>;
  readonly #child;
  readonly #records: AsyncGenerator<string>;

  constructor(command: string[]) {
    this.#child = Bun.spawn(command, { stdio: ["pipe", "pipe", "pipe"], env: {} });
    this.#records = recordsOf(this.#child.stdout);
    this.closed = this.#child.exited.then(() => {});
  }

  /** Resolves once the watch stands; throws what kept it from it. Called once, first. */
  async started(): Promise<void> {
    const { value } = await this.#records.next();
    if (value === "S") return;
    const reason = (await new Response(this.#child.stderr).text()).trim();
    switch (await this.#child.exited) {
      case ERRNO.ENOENT:
      case ERRNO.ENOTDIR:
        throw new EnvdError("not_found", reason);
      case ERRNO.ENOSPC:
        throw tooMany("more");
      case ERRNO.EMFILE:
      case ERRNO.ENOMEM:
        throw new EnvdError("resource_exhausted", `the guest can watch no more: ${reason}`);
      default:
        throw new Error(`watch failed: ${reason}`);
    }
  }

  /**
   * The next change, or null when the directory has gone. resource_exhausted when some were lost, or
   * will be because no more directories can be watched; it goes on after that.
   */
  async next(): Promise<Change | null> {
    const { value, done } = await this.#records.next();
    if (done) return null;
    if (value === "O") {
      throw new EnvdError("resource_exhausted", "changes came faster than they were read");
    }
    if (value.startsWith("L")) throw tooMany(`'${value.slice(1) || "."}' and below`);
    const type = EVENT_TYPES[value.slice(0, 1)];
    if (type === undefined) throw new Error(`unreachable: record ${value}`);
    return { type, name: value.slice(1) || "." };
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }
}

/** Errnos that the program ends with; see errno(3). */
const ERRNO = { ENOENT: 2, ENOMEM: 12, ENOTDIR: 20, EMFILE: 24, ENOSPC: 28 } as const;

function tooMany(what: string): EnvdError {
  return new EnvdError(
    "resource_exhausted",
    `too many directories: the guest cannot watch ${what} (fs.inotify.max_user_watches)`,
  );
}

async function* recordsOf(stdout: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stdout) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
      yield shownName(rest.subarray(0, end));
      rest = rest.subarray(end + 1);
    }
    if (rest.length > WATCH_RECORD_BYTES_MAX) throw new Error("watch told a record without end");
  }
}
