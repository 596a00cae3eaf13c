// The RPC service filesystem.Filesystem.

import { rename } from "node:fs/promises";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Filesystem } from "../../proto/gen/envd/filesystem_pb.js";
import { EnvdError, errnoOf, fileError } from "../errors.ts";
import { systemName } from "../file-names.ts";
import type { MetadataStore } from "../files/metadata.ts";
import { openPathHandle } from "../files/path-handle.ts";
import { removePath } from "../files/remove.ts";
import { actorOf } from "../files/write.ts";
import { resolvePath } from "../paths.ts";
import { requestedUser } from "../process/environment.ts";
import type { Settings } from "../settings.ts";
import type { User, Users } from "../users.ts";
import { entryOf } from "./entry.ts";
import { listDirectory } from "./list.ts";

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
      const { path, user, actor } = locate(request.path, context);
      makeDirectory(path, { user, actor, users: deps.users });
      return { entry: await entryOf(path, deps) };
    },

    async move(request, context) {
      const source = locate(request.source, context);
      const destination = locate(request.destination, context);
      await move(source.path, destination.path, { ...destination, users: deps.users });
      return { entry: await entryOf(destination.path, deps) };
    },

    async listDir(request, context) {
      const { path, actor } = locate(request.path, context);
      return { entries: await listDirectory(path, request.depth || 1, { ...deps, actor }) };
    },

    async remove(request, context) {
      const { path, actor } = locate(request.path, context);
      await removePath(path, { users: deps.users, actor });
      return {};
    },
  };
}

function locatePath(
  path: string,
  context: HandlerContext,
  deps: FilesystemDeps,
): { path: string; user: User; actor: User | null } {
  const user = requestedUser(context.requestHeader, deps.users, deps.settings);
  const actor = actorOf(context.requestHeader, user);
  return { path: resolvePath(path, user, deps.settings.defaultWorkdir), user, actor };
}

interface Doer {
  readonly user: User;
  /** Whose rights count; null: envd's. */
  readonly actor: User | null;
  readonly users: Users;
}

function makeDirectory(path: string, { user, actor, users }: Doer): void {
  using handle = openPathHandle(path, { users, followsLast: true, maker: user, actor });
  if (handle?.entry?.stat.isDirectory()) {
    throw new EnvdError("already_exists", `directory '${path}' already exists`);
  }
  if (handle?.entry) throw new EnvdError("invalid_argument", `path '${path}' is a file`);
  try {
    handle?.makeDirectory(user);
  } catch (error) {
    throw fileError(error, path);
  }
}

async function move(
  source: string,
  destination: string,
  { user, actor, users }: Doer,
): Promise<void> {
  using from = openPathHandle(source, { users, followsLast: false, maker: null, actor });
  if (!from?.entry) throw new EnvdError("not_found", `path '${source}' does not exist`);
  from.requireChange();
  using to = openPathHandle(destination, { users, followsLast: false, maker: user, actor });
  if (to === null) throw new Error("unreachable: directories are made");
  to.requireChange();
  try {
    await rename(systemName(from.path), systemName(to.path));
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
