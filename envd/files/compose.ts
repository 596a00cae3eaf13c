// POST /files/compose: several files become one.
import { EnvdError } from "../errors.ts";
import { FILE_CHUNK_BYTES, UPLOAD_FILES_MAX } from "../limits.ts";
import { resolvePath } from "../paths.ts";
import type { Users } from "../users.ts";
import { openForReading } from "./read.ts";
import { removePath } from "./remove.ts";
import { type FilesDeps, type WrittenFile, writeFile } from "./write.ts";

interface ComposeRequest {
  readonly sourcePaths: readonly string[];
  readonly destination: string;
  readonly username: string | null;
}

/**
 * Writes the contents of the sources one after the other to the destination, as an upload without
 * metadata is written, and then removes the sources. On failure all files are as they were.
 */
export async function composeFiles(body: unknown, deps: FilesDeps): Promise<WrittenFile> {
  const request = parseRequest(body);
  const user = deps.users.byName(request.username || deps.settings.defaultUser);
  const resolve = (path: string) => resolvePath(path, user, deps.settings.defaultWorkdir);
  const sources = request.sourcePaths.map(resolve);
  const destination = resolve(request.destination);
  const content = contentsOf(sources, deps.users);
  const written = await writeFile(destination, content, {
    ...{ user, actor: null, metadata: {}, deps },
  });
  for (const source of sources) {
    if (source !== destination) await removePath(source, { users: deps.users, actor: null });
  }
  return written;
}

async function* contentsOf(paths: readonly string[], users: Users): AsyncGenerator<Uint8Array> {
  for (const path of paths) {
    const file = await openForReading(path, { users, actor: null });
    try {
      for (;;) {
        const room = new Uint8Array(FILE_CHUNK_BYTES);
        const { bytesRead } = await file.read(room, 0, room.length, null);
        if (bytesRead === 0) break;
        yield room.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  }
}

function parseRequest(body: unknown): ComposeRequest {
  const { source_paths, destination, username } = Object(body);
  const isList = Array.isArray(source_paths) && source_paths.every((path) => isPath(path));
  if (!isList || source_paths.length === 0 || source_paths.length > UPLOAD_FILES_MAX) {
    throw new EnvdError("invalid_argument", `source_paths: must be 1 to ${UPLOAD_FILES_MAX} paths`);
  }
  if (!isPath(destination)) throw new EnvdError("invalid_argument", "destination: must be a path");
  if (username !== undefined && typeof username !== "string") {
    throw new EnvdError("invalid_argument", "username: must be a string");
  }
  return { sourcePaths: source_paths, destination, username: username ?? null };
}

function isPath(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}
