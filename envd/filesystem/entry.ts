// How a file looks to a client.
import type { BigIntStats } from "node:fs";
import { lstat, realpath, stat } from "node:fs/promises";
import { basename } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type EntryInfoSchema, FileType } from "../../proto/gen/envd/filesystem_pb.js";
import { errnoOf, fileError } from "../errors.ts";
import { shownName, systemName } from "../file-names.ts";
import type { MetadataStore } from "../files/metadata.ts";
import type { Users } from "../users.ts";

export type Entry = MessageInitShape<typeof EntryInfoSchema>;

const FORMAT_MASK = 0o170000;
/** The letter of each kind of file, by the format bits of inode(7). */
const LETTERS = new Map([
  [0o140000, "S"],
  [0o120000, "L"],
  [0o100000, "-"],
  [0o060000, "b"],
  [0o040000, "d"],
  [0o020000, "c"],
  [0o010000, "p"],
]);

/** The years 1 to 9999; a file system may keep times that lie 292 billion years off. */
const TIMESTAMP_SECONDS_MIN = -62_135_596_800n;
const TIMESTAMP_SECONDS_MAX = 253_402_300_799n;

/** How entries are looked up. */
export interface EntryDeps {
  readonly users: Users;
  readonly metadata: MetadataStore;
}

/** The entry at the path, with the metadata of its file. not_found when nothing is there. */
export async function entryOf(path: string, deps: EntryDeps): Promise<Entry> {
  const entry = await bareEntryOf(path, { users: deps.users });
  const [metadata = {}] = await deps.metadata.read([path]);
  return { ...entry, metadata };
}

/**
 * The entry at the path, without metadata. A link has the type and mode of what it leads to (none when it dangles),
 * its own size, owner and time, and its target in full. not_found when nothing is there. `at` leads to
 * what has the path where that may have changed meanwhile, or be too long.
 */
export async function bareEntryOf(
  path: string,
  { users, at = path }: { users: Users; at?: string },
): Promise<Entry> {
  try {
    const own = await lstat(systemName(at), { bigint: true });
    const target = own.isSymbolicLink() ? await targetOf(path, systemName(at)) : null;
    const shown = own.isSymbolicLink() ? (target?.stat ?? null) : own;
    return {
      name: basename(path) || "/",
      type: typeOf(shown),
      path,
      size: own.size,
      mode: shown === null ? 0 : Number(shown.mode & 0o7777n),
      permissions: permissionsOf(Number(own.mode)),
      owner: users.userName(Number(own.uid)),
      group: users.groupName(Number(own.gid)),
      modifiedTime: timestampOf(own.mtimeNs),
      ...(target === null ? {} : { symlinkTarget: target.path }),
    };
  } catch (error) {
    throw fileError(error, path);
  }
}

async function targetOf(
  path: string,
  at: string | Buffer,
): Promise<{ path: string; stat: BigIntStats | null }> {
  try {
    const target = shownName(await realpath(at, "buffer"));
    return { path: target, stat: await stat(at, { bigint: true }) };
  } catch (error) {
    // A dangling link, or one that leads to itself, is still an entry.
    if (errnoOf(error) === null) throw error;
    return { path, stat: null };
  }
}

function typeOf(stat: BigIntStats | null): FileType {
  if (stat?.isFile()) return FileType.FILE;
  if (stat?.isDirectory()) return FileType.DIRECTORY;
  return FileType.UNSPECIFIED;
}

/** The letter of the kind, then rwx for owner, group and others. */
function permissionsOf(mode: number): string {
  const letter = LETTERS.get(mode & FORMAT_MASK) ?? "?";
  const bits = [..."rwxrwxrwx"].map((bit, i) => (mode & (0o400 >> i) ? bit : "-"));
  return letter + bits.join("");
}

/** A time that google.protobuf.Timestamp does not know is its first or last one. */
function timestampOf(nanoseconds: bigint): { seconds: bigint; nanos: number } {
  const nanos = ((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const seconds = (nanoseconds - nanos) / 1_000_000_000n;
  if (seconds < TIMESTAMP_SECONDS_MIN) return { seconds: TIMESTAMP_SECONDS_MIN, nanos: 0 };
  if (seconds > TIMESTAMP_SECONDS_MAX) return { seconds: TIMESTAMP_SECONDS_MAX, nanos: 0 };
  return { seconds, nanos: Number(nanos) };
}
