// POST /files: bodies go to disk as they come.
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { EnvdError, fileError } from "../errors.ts";
import type { Settings } from "../init/settings.ts";
import { UPLOAD_BYTES_MAX, UPLOAD_FILES_MAX } from "../limits.ts";
import { resolvePath } from "../paths.ts";
import type { User, Users } from "../users.ts";
import { makeDirectories } from "./directories.ts";
import { type Metadata, type MetadataStore, metadataOf } from "./metadata.ts";
import { boundaryOf, partsOf } from "./multipart.ts";
import { authorizeFiles } from "./signature.ts";

const FILE_MODE = 0o666;

/** What a client is told of a file that was written. */
export interface WrittenFile {
  readonly path: string;
  readonly name: string;
  readonly type: "file";
  /** Absent when there is none. */
  readonly metadata?: Metadata;
}

export interface FilesDeps {
  readonly metadata: MetadataStore;
  readonly settings: Settings;
  readonly users: Users;
}

/**
 * Writes one file from an octet stream, or each part named `file` of a form. Missing directories are
 * made; files and directories belong to the user. A failed upload leaves what had come until then.
 */
export async function writeFiles(request: Request, deps: FilesDeps): Promise<Response> {
  const { headers } = request;
  const query = new URL(request.url).searchParams;
  authorizeFiles({ headers, query, operation: "write", settings: deps.settings });
  const user = fileUser(query, deps);
  const upload = { path: query.get("path"), user, metadata: metadataOf(headers), deps };
  const body = limited(decoded(request));

  const contentType = headers.get("content-type") ?? "";
  const mediaType = contentType.split(";", 1)[0]?.trim().toLowerCase();
  switch (mediaType) {
    case "multipart/form-data":
      return Response.json(await writeParts(partsOf(body, boundaryOf(contentType)), upload));
    case "application/octet-stream":
      return Response.json([await writeStream(body, upload)]);
    default:
      throw new EnvdError(
        "invalid_argument",
        `content type '${contentType}' is neither multipart/form-data nor application/octet-stream`,
      );
  }
}

/** The user that a /files request names, or the default one. */
export function fileUser(query: URLSearchParams, deps: FilesDeps): User {
  return deps.users.byName(query.get("username") || deps.settings.defaultUser);
}

interface Upload {
  readonly path: string | null;
  readonly user: User;
  readonly metadata: Metadata;
  readonly deps: FilesDeps;
}

async function writeParts(
  parts: ReturnType<typeof partsOf>,
  upload: Upload,
): Promise<WrittenFile[]> {
  const written = new Map<string, WrittenFile>();
  for await (const part of parts) {
    if (part.name !== "file") continue;
    const given = upload.path || part.fileName;
    if (!given) throw new EnvdError("invalid_argument", "file: has neither path nor file name");
    const path = resolvePath(given, upload.user, upload.deps.settings.defaultWorkdir);
    if (written.has(path)) {
      throw new EnvdError(
        "invalid_argument",
        `you cannot upload multiple files to the same path '${path}' in one upload request`,
      );
    }
    if (written.size === UPLOAD_FILES_MAX) {
      throw new EnvdError("too_large", `file: more than ${UPLOAD_FILES_MAX} in one request`);
    }
    written.set(path, await writeUpload(path, part.body, upload));
  }
  return [...written.values()];
}

function writeStream(body: AsyncIterable<Uint8Array>, upload: Upload): Promise<WrittenFile> {
  if (!upload.path) throw new EnvdError("invalid_argument", "path: is required");
  const path = resolvePath(upload.path, upload.user, upload.deps.settings.defaultWorkdir);
  return writeUpload(path, body, upload);
}

/** Writes the file with the metadata of the upload, which takes the place of what it had. */
async function writeUpload(
  path: string,
  body: AsyncIterable<Uint8Array>,
  upload: Upload,
): Promise<WrittenFile> {
  const { metadata, deps } = upload;
  const written = await writeFile(path, body, upload.user);
  await deps.metadata.write(path, metadata);
  return Object.keys(metadata).length === 0 ? written : { ...written, metadata };
}

/**
 * Makes or replaces the content of a regular file. Owner and content are changed through one
 * descriptor, so that a path which is swapped meanwhile cannot direct them elsewhere.
 */
export async function writeFile(
  path: string,
  body: AsyncIterable<Uint8Array>,
  user: User,
): Promise<WrittenFile> {
  await makeDirectories(dirname(path), user);
  try {
    await using file = await openForWriting(path);
    await own(file, user);
    for await (const chunk of body) await writeAll(file, chunk);
  } catch (error) {
    throw fileError(error, path);
  }
  return { path, name: basename(path), type: "file" };
}

async function openForWriting(path: string): Promise<FileHandle> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NONBLOCK } = constants;
  // A pipe without a reader would otherwise hold the open up for ever.
  const file = await open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, FILE_MODE);
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw new EnvdError("invalid_argument", `path '${path}' is no regular file`);
}

async function own(file: FileHandle, user: User): Promise<void> {
  const stat = await file.stat();
  if (stat.uid !== user.uid || stat.gid !== user.gid) await file.chown(user.uid, user.gid);
}

async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, at, chunk.length - at);
    at += bytesWritten;
  }
}

function decoded(request: Request): AsyncIterable<Uint8Array> {
  const body = request.body ?? new Blob([]).stream();
  const encoding = request.headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  switch (encoding) {
    case "identity":
    case "":
      return body;
    case "gzip":
      return inflated(body);
    default:
      throw new EnvdError("unsupported_media_type", `content encoding '${encoding}' is unknown`);
  }
}

async function* inflated(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncIterable<Uint8Array> {
  try {
    yield* body.pipeThrough(new DecompressionStream("gzip"));
  } catch (error) {
    throw new EnvdError("invalid_argument", "body: is no valid gzip stream", { cause: error });
  }
}

async function* limited(body: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > UPLOAD_BYTES_MAX) {
      throw new EnvdError("too_large", `body: is longer than ${UPLOAD_BYTES_MAX} bytes`);
    }
    yield chunk;
  }
}
