// The RPC service filesystem.Filesystem.

import { readdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Filesystem } from "../../proto/gen/envd/filesystem_pb.js";
import { EnvdError, errnoOf, fileError } from "../errors.ts";
import type { MetadataStore } from "../files/metadata.ts";
import { openPlace } from "../files/place.ts";
import { removePath } from "../files/remove.ts";
import { LIST_DEPTH_MAX, LIST_ENTRIES_MAX } from "../limits.ts";
import { resolvePath } from "../paths.ts";
import { requestedUser } from "../process/environment.ts";
import type { Settings } from "../settings.ts";
import type { User, Users } from "../users.ts";
import { bareEntryOf, type Entry, entryOf } from "./entry.ts";

export interface FilesystemDeps {
  readonly users: Users;
  readonly metadata: MetadataStore;
  readonly settings: Settings;
}

/** Implements filesystem.Filesystem. Paths are resolved as the requested user means them. */
export function filesystemService(
  deps: FilesystemDeps,
): Pick<ServiceImpl<typeof Filesystem>, "stat" | "makeDir" | "move" | "listDir" | "remove"> {
  const locate = (path: string, context: HandlerContext) => locatePath(path, context, deps);
  return {
    async stat(request, context) {
      return { entry: await entryOf(locate(request.path, context).path, deps) };
    },

    async makeDir(request, context) {
      const { path, user } = locate(request.path, context);
      makeDirectory(path, user, deps.users);
      return { entry: await entryOf(path, deps) };
    },

    async move(request, context) {
      const source = locate(request.source, context);
      const destination = locate(request.destination, context);
      await move(source.path, destination.path, { user: destination.user, users: deps.users });
      return { entry: await entryOf(destination.path, deps) };
    },

    async listDir(request, context) {
      const { path } = locate(request.path, context);
      return { entries: await listDirectory(path, request.depth || 1, deps) };
    },

    async remove(request, context) {
      const { path } = locate(request.path, context);
      await removePath(path, deps.users);
      return {};
    },
  };
}

function locatePath(
  path: string,
  context: HandlerContext,
  deps: FilesystemDeps,
): { path: string; user: User } {
  const user = requestedUser(context.requestHeader, deps.users, deps.settings);
  return { path: resolvePath(path, user, deps.settings.defaultWorkdir), user };
}

function makeDirectory(path: string, user: User, users: Users): void {
  using place = openPlace(path, { users, followsLast: true, maker: user });
  if (place?.entry?.stat.isDirectory()) {
    throw new EnvdError("already_exists", `directory '${path}' already exists`);
  }
  if (place?.entry) throw new EnvdError("invalid_argument", `path '${path}' is a file`);
  try {
    place?.makeDirectory(user);
  } catch (error) {
    throw fileError(error, path);
  }
}

async function move(
  source: string,
  destination: string,
  { user, users }: { user: User; users: Users },
): Promise<void> {
  using from = openPlace(source, { users, followsLast: false, maker: null });
  if (!from?.entry) throw new EnvdError("not_found", `path '${source}' does not exist`);
  from.requireChange();
  using to = openPlace(destination, { users, followsLast: false, maker: user });
  if (to === null) throw new Error("unreachable: directories are made");
  to.requireChange();
  try {
    await rename(from.path, to.path);
  } catch (error) {
    throw moveError(error, source, destination);
  }
}

function moveError(error: unknown, source: string, destination: string): unknown {
  switch (errnoOf(error)) {
    case "EXDEV":
      return new EnvdError(
        "failed_precondition",
        `cannot move '${source}' to '${destination}': they lie on different file systems`,
        { cause: error },
      );
    case "EINVAL":
      return new EnvdError("invalid_argument", `cannot move '${source}' into itself`, {
        cause: error,
      });
    case "ENOTEMPTY":
    case "EEXIST":
      return new EnvdError("already_exists", `path '${destination}' is a directory with content`, {
        cause: error,
      });
    default:
      return fileError(error, destination);
  }
}

/**
 * What lies below the directory, in lexical order, each directory followed by its content, as deep as
 * asked. A link to a directory may be listed, but links below it are not followed.
 */
async function listDirectory(path: string, depth: number, deps: FilesystemDeps): Promise<Entry[]> {
  const root = await stat(path).catch((error) => {
    throw fileError(error, path);
  });
  if (!root.isDirectory()) {
    throw new EnvdError("invalid_argument", `path '${path}' is not a directory`);
  }
  const entries: Entry[] = [];
  const paths: string[] = [];
  await walk(path, Math.min(depth, LIST_DEPTH_MAX), { entries, paths, users: deps.users });
  const metadata = await deps.metadata.read(paths);
  return entries.map((entry, i) => ({ ...entry, metadata: metadata[i] ?? {} }));
}

async function walk(
  directory: string,
  depth: number,
  into: { entries: Entry[]; paths: string[]; users: Users },
): Promise<void> {
  for (const child of await readSorted(directory)) {
    const path = join(directory, child.name);
    const entry = await entryOrGone(path, into.users);
    if (entry === null) continue;
    if (into.entries.push(entry) > LIST_ENTRIES_MAX) {
      throw new EnvdError("resource_exhausted", `path: more than ${LIST_ENTRIES_MAX} entries`);
    }
    into.paths.push(path);
    if (child.isDirectory() && depth > 1) await walk(path, depth - 1, into);
  }
}

async function readSorted(directory: string) {
  try {
    const children = await readdir(directory, { withFileTypes: true });
    return children.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  } catch (error) {
    throw fileError(error, directory);
  }
}

/** Null for what was removed between reading its directory and looking at it. */
async function entryOrGone(path: string, users: Users): Promise<Entry | null> {
  try {
    return await bareEntryOf(path, users);
  } catch (error) {
    if (error instanceof EnvdError && errnoOf(error.cause) === "ENOENT") return null;
    throw error;
  }
}
