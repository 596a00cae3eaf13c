// What lies below a directory, while programs of the guest go on changing it.
//
// Each directory is held open and its names are looked at below it, so that one that is moved, removed
// or replaced by a link meanwhile leads nowhere else, and paths may be longer than system calls take.
import type { Stats } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { FileType } from "../../proto/gen/envd/filesystem_pb.js";
import { EnvdError, errnoOf, fileError } from "../errors.ts";
import { shownName } from "../file-names.ts";
import { holdDirectory } from "../files/descriptors.ts";
import { haveRights, openPathHandle, READ } from "../files/path-handle.ts";
import { LIST_DEPTH_MAX, LIST_ENTRIES_MAX } from "../limits.ts";
import type { User, Users } from "../users.ts";
import { bareEntryOf, type Entry, type EntryDeps } from "./entry.ts";

/** What has been removed since its directory was read, or whose directory has become something else. */
const GONE = ["ENOENT", "ENOTDIR", "ESRCH", "ESTALE"];
/** What is no matter of the directory that is listed. */
const OURS = ["EMFILE", "ENFILE", "ENOMEM"];

interface Listing {
  readonly users: Users;
  readonly actor: User | null;
  readonly entries: Entry[];
  readonly paths: string[];
}

/**
 * The entries in lexical order, each directory followed by its content, as deep as asked. A link to a
 * directory may be listed, but links below it are not followed. What cannot be looked at is listed by
 * its name alone. too_large for more entries than are told.
 */
export async function listDirectory(
  path: string,
  depth: number,
  deps: EntryDeps & { readonly actor: User | null },
): Promise<Entry[]> {
  const { users, actor } = deps;
  const listing: Listing = { users, actor, entries: [], paths: [] };
  if (actor !== null) requireReadable(path, users, actor);
  try {
    using root = holdDirectory(path, { followsLast: true });
    await list({ at: root.path, path }, Math.min(depth, LIST_DEPTH_MAX), listing);
  } catch (error) {
    if (errnoOf(error) !== "ENOTDIR") throw fileError(error, path);
    throw new EnvdError("invalid_argument", `path '${path}' is not a directory`, { cause: error });
  }
  const metadata = await deps.metadata.read(listing.paths);
  return listing.entries.map((entry, i) => ({ ...entry, metadata: metadata[i] ?? {} }));
}

/** A directory by what leads to it, and by what it is called. */
interface Directory {
  readonly at: string;
  readonly path: string;
}

async function list(directory: Directory, depth: number, listing: Listing): Promise<void> {
  const names = await readdir(directory.at, "buffer");
  for (const name of names.map(shownName).sort()) {
    const child = { at: `${directory.at}/${name}`, path: join(directory.path, name) };
    const entry = await entryOrGone(child, listing.users);
    if (entry === null) continue;
    if (listing.entries.push(entry) > LIST_ENTRIES_MAX) {
      throw new EnvdError("too_large", `path: more than ${LIST_ENTRIES_MAX} entries`);
    }
    listing.paths.push(child.path);
    const isDirectory = entry.type === FileType.DIRECTORY && entry.symlinkTarget === undefined;
    if (isDirectory && depth > 1) await listBelow(child, depth - 1, listing);
  }
}

/** The directory may have gone; one that cannot be read is listed without its content. */
async function listBelow(child: Directory, depth: number, listing: Listing): Promise<void> {
  try {
    using held = holdDirectory(child.at, { followsLast: false });
    if (!mayList(listing.actor, await stat(held.path))) return;
    await list({ at: held.path, path: child.path }, depth, listing);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === null || OURS.includes(errno)) throw error;
  }
}

function requireReadable(path: string, users: Users, actor: User): void {
  using handle = openPathHandle(path, { users, followsLast: true, maker: null, actor });
  handle?.requireEntry(READ);
}

function mayList(actor: User | null, directory: Stats): boolean {
  return actor === null || actor.uid === 0 || haveRights([actor], directory, READ);
}

async function entryOrGone({ at, path }: Directory, users: Users): Promise<Entry | null> {
  try {
    return await bareEntryOf(path, { users, at });
  } catch (error) {
    const errno = error instanceof EnvdError ? errnoOf(error.cause) : errnoOf(error);
    if (errno === null) throw error;
    return GONE.includes(errno) ? null : { name: basename(path), path };
  }
}
