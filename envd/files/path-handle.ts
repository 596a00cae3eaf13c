// A path, walked so that nobody can redirect it while envd, which is root, acts on it.
//
// Programs of the guest's users own most of the directories that clients name, and may put a link in
// the place of any of them at any time. So a path is walked one name at a time, each directory held
// open, and what is done is done below the held directory: through /proc/<pid>/fd, which gives the *at
// calls to a runtime that has none, and to programs that envd asks. Links are followed, but a link
// never leads further than who put it there could go: from then on that user's rights to read, write
// and search count as well. Links that root made in directories of root's lead everywhere.
import type { Stats } from "node:fs";
import {
  chownSync,
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
} from "node:fs";
import { join } from "node:path";
import { EnvdError, errnoOf, fileError } from "../errors.ts";
import { shownName, systemName } from "../file-names.ts";
import type { Rights, User, Users } from "../users.ts";
import { descriptorPath, holdPath } from "./descriptors.ts";

const { O_NOFOLLOW, O_DIRECTORY } = constants;

const DIRECTORY_MODE = 0o755;
const STICKY = 0o1000;
const ANYONE_WRITES = 0o002;

/** Links on one path, as many as Linux follows (path_resolution(7)). */
const LINKS_MAX = 40;

/** Rights as in the bits of a file's mode. */
export const READ = 4;
export const WRITE = 2;
const SEARCH = 1;

export interface PathHandleOptions {
  readonly users: Users;
  /** Whether a link in the last place is followed, too. */
  readonly followsLast: boolean;
  /** Whose directories are made where some are missing; null: none are made. */
  readonly maker: User | null;
  /** Whose rights count from the start; null: those of envd, which may do everything. */
  readonly actor: Rights | null;
}

interface Held {
  readonly fd: number;
  readonly stat: Stats;
}

/** A name in a directory that is held open, and what had that name. Dispose it to let go. */
export class PathHandle implements Disposable {
  #entry: Held | null;
  readonly #directory: Held;
  readonly #name: string;
  readonly #shown: string;
  readonly #rights: readonly Rights[];

  constructor(walked: {
    directory: Held;
    entry: Held | null;
    name: string;
    shown: string;
    rights: readonly Rights[];
  }) {
    this.#entry = walked.entry;
    this.#directory = walked.directory;
    this.#name = walked.name;
    this.#shown = walked.shown;
    this.#rights = walked.rights;
  }

  /** What has the name; null when nothing had. */
  get entry(): Held | null {
    return this.#entry;
  }

  /** The directory that holds the name. */
  get directoryPath(): string {
    return pathOf(this.#directory);
  }

  /** The name, for system calls that do not follow a link in the last place. */
  get path(): string {
    return this.sibling(this.#name);
  }

  /** Another name in the same directory. */
  sibling(name: string): string {
    return below(this.#directory, name);
  }

  /** The very thing that had the name; to be opened while the path is held. */
  get entryPath(): string {
    if (this.entry === null) throw new Error("unreachable: nothing has the name");
    return pathOf(this.entry);
  }

  /** Whether the entry is mounted there, so that no other can take its name. */
  get isMountPoint(): boolean {
    return this.#entry !== null && mountOf(this.#entry) !== mountOf(this.#directory);
  }

  /** Looks at what has the name now. */
  lookAgain(): void {
    const before = this.#entry;
    this.#entry = holdOrNull(this.path);
    if (before !== null) closeSync(before.fd);
  }

  /** permission_denied when the actor, or who made a link on the way, may not do that to the entry. */
  requireEntry(right: typeof READ | typeof WRITE): void {
    if (this.entry !== null) requireRights(this.#rights, this.entry.stat, right, this.#shown);
  }

  /** permission_denied when the actor, or who made a link, may not make, move or remove the name. */
  requireChange(): void {
    if (!this.mayChange) throw refused(this.#shown);
  }

  get mayChange(): boolean {
    const { stat } = this.#directory;
    if (!haveRights(this.#rights, stat, WRITE | SEARCH)) return false;
    const owners = [stat.uid, this.entry?.stat.uid];
    const isSticky = (stat.mode & STICKY) !== 0 && this.entry !== null;
    return !isSticky || this.#rights.every(({ uid }) => owners.includes(uid));
  }

  /** Makes a directory of that name for the user; fails with EEXIST where something is. */
  makeDirectory(user: User): void {
    this.requireChange();
    const made = makeHeld(this.path, user);
    closeSync(made.fd);
  }

  [Symbol.dispose](): void {
    closeSync(this.#directory.fd);
    if (this.entry !== null) closeSync(this.entry.fd);
  }
}

/**
 * Walks the absolute path. Null when a directory on it is missing and none are made. Throws
 * invalid_argument when a file is in the way or links lead nowhere, permission_denied where the actor
 * may not go, or a link leads further than its maker could. Directories that were made before a failure stay.
 */
export function openPathHandle(path: string, options: PathHandleOptions): PathHandle | null {
  const walk = new Walk(path, options);
  try {
    return walk.run();
  } catch (error) {
    throw fileError(error, path);
  } finally {
    walk.close();
  }
}

class Walk {
  readonly #path: string;
  readonly #options: PathHandleOptions;
  readonly #pending: string[];
  readonly #rights: Rights[];
  #directory = openRoot();
  /** The directory as a client would name it. */
  #shown = "/";
  #links = 0;
  #isTaken = false;

  constructor(path: string, options: PathHandleOptions) {
    this.#path = path;
    this.#options = options;
    this.#pending = namesOf(path);
    const { actor } = options;
    this.#rights = actor === null || actor.uid === 0 ? [] : [actor];
  }

  run(): PathHandle | null {
    for (;;) {
      const name = this.#pending.shift() ?? ".";
      const isLast = this.#pending.length === 0;
      const entry = this.#look(name);
      if (entry?.stat.isSymbolicLink() && (!isLast || this.#options.followsLast)) {
        this.#follow(entry, name);
      } else if (isLast) {
        return this.#take(name, entry);
      } else {
        const next = entry ?? this.#make(name);
        if (next === null) return null;
        this.#enter(next, name);
      }
    }
  }

  /** Lets go of the directory unless a path handle has it. */
  close(): void {
    if (!this.#isTaken) closeSync(this.#directory.fd);
  }

  #look(name: string): Held | null {
    requireRights(this.#rights, this.#directory.stat, SEARCH, this.#path);
    return holdOrNull(below(this.#directory, name));
  }

  #follow(link: Held, name: string): void {
    closeSync(link.fd);
    if (++this.#links > LINKS_MAX) {
      throw new EnvdError("invalid_argument", `path '${this.#path}' has too many links`);
    }
    const { users } = this.#options;
    this.#rights.push(...makersOf(link.stat, this.#directory.stat).map((uid) => users.rights(uid)));
    // Should the link be another one by now, then one of a user whose rights count already.
    const path = systemName(below(this.#directory, name));
    const target = shownName(readlinkSync(path, "buffer"));
    if (target.startsWith("/")) this.#replaceDirectory(openRoot(), "/");
    this.#pending.unshift(...namesOf(target));
  }

  #make(name: string): Held | null {
    const { maker } = this.#options;
    if (maker === null) return null;
    requireRights(this.#rights, this.#directory.stat, WRITE | SEARCH, this.#path);
    const path = below(this.#directory, name);
    try {
      return makeHeld(path, maker);
    } catch (error) {
      // Another request made it meanwhile.
      if (errnoOf(error) === "EEXIST") return hold(path, O_NOFOLLOW | O_DIRECTORY);
      throw error;
    }
  }

  #enter(next: Held, name: string): void {
    const shown = join(this.#shown, name);
    if (!next.stat.isDirectory()) {
      closeSync(next.fd);
      throw this.#options.maker === null
        ? new EnvdError("invalid_argument", `path '${this.#path}' passes through a file`)
        : new EnvdError("invalid_argument", `path '${shown}' is a file`);
    }
    this.#replaceDirectory(next, shown);
  }

  #replaceDirectory(next: Held, shown: string): void {
    closeSync(this.#directory.fd);
    this.#directory = next;
    this.#shown = shown;
  }

  #take(name: string, entry: Held | null): PathHandle {
    this.#isTaken = true;
    const [directory, rights, shown] = [this.#directory, this.#rights, this.#path];
    return new PathHandle({ directory, entry, name, rights, shown });
  }
}

function namesOf(path: string): string[] {
  return path.split("/").filter((name) => name !== "");
}

/** Not joined: the kernel is to say what `..` is. */
function below(directory: Held, name: string): string {
  return `${pathOf(directory)}/${name}`;
}

function pathOf({ fd }: Held): string {
  return descriptorPath(fd);
}

/** The number of the mount (proc_pid_fdinfo(5)). */
function mountOf({ fd }: Held): string | undefined {
  return readFileSync(`/proc/self/fdinfo/${fd}`, "latin1").match(/^mnt_id:\s*(\d+)$/m)?.[1];
}

function openRoot(): Held {
  return hold("/", O_DIRECTORY);
}

/** Null when nothing has the name; a link is held itself. */
function holdOrNull(path: string): Held | null {
  try {
    return hold(path, O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}

function hold(path: string, flags: number): Held {
  const fd = holdPath(path, flags);
  return { fd, stat: fstatSync(fd) };
}

function makeHeld(path: string, user: User): Held {
  mkdirSync(systemName(path), DIRECTORY_MODE);
  const made = hold(path, O_NOFOLLOW | O_DIRECTORY);
  const isOwn = made.stat.uid === user.uid && made.stat.gid === user.gid;
  // One that holds something is not ours: its place was taken meanwhile.
  if (!isOwn && readdirSync(pathOf(made)).length === 0) {
    chownSync(pathOf(made), user.uid, user.gid);
  }
  return { fd: made.fd, stat: fstatSync(made.fd) };
}

/** Who can have put the link there, root apart. */
function makersOf(link: Stats, directory: Stats): number[] {
  const isAnyones = (directory.mode & (ANYONE_WRITES | STICKY)) === ANYONE_WRITES;
  // No user has that number, so that only what everybody may counts.
  return [link.uid, directory.uid, isAnyones ? -1 : 0].filter((uid) => uid !== 0);
}

function requireRights(all: readonly Rights[], stat: Stats, right: number, path: string): void {
  if (!haveRights(all, stat, right)) throw refused(path);
}

/** Whether all of them may do that; root, who may everything, is none of them. */
export function haveRights(all: readonly Rights[], stat: Stats, right: number): boolean {
  return all.every(({ uid, groups }) => {
    const shift = stat.uid === uid ? 6 : groups.includes(stat.gid) ? 3 : 0;
    return ((stat.mode >> shift) & right) === right;
  });
}

function refused(path: string): EnvdError {
  return new EnvdError(
    "permission_denied",
    `path '${path}' may not be changed or read by its user, or a link on it leads further than its owner may go`,
  );
}
