// POST /files: bodies go to disk as they come.
import { constants } from "node:fs";
import { type FileHandle, lstat, open, unlink } from "node:fs/promises";
import { basename } from "node:path";
import { type Part, readMultipart } from "../../proto/http1/multipart.ts";
import { EnvdError, errnoOf, fileError } from "../errors.ts";
import { MULTIPART_PARTS_MAX, UPLOAD_BYTES_MAX, UPLOAD_FILES_MAX } from "../limits.ts";
import { resolvePath } from "../paths.ts";
import type { Settings } from "../settings.ts";
import type { User, Users } from "../users.ts";
import { type Metadata, type MetadataStore, metadataOf } from "./metadata.ts";
import { openPlace, type Place, WRITE } from "./place.ts";
import { authorizeFiles } from "./signature.ts";

/** Before the umask. */
export const FILE_MODE = 0o666;

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
 * made; files and directories belong to the user. A file keeps its old content until the first bytes of
 * the new one are there; an upload that breaks off later leaves what had come until then, or with `whole`
 * in the query no file, so that nobody takes the part for the whole.
 */
export async function writeFiles(request: Request, deps: FilesDeps): Promise<Response> {
  const { headers } = request;
  const query = new URL(request.url).searchParams;
  authorizeFiles({ headers, query, operation: "write", settings: deps.settings });
  const user = fileUser(query, deps);
  const isWhole = query.has("whole");
  const upload = { path: query.get("path"), user, metadata: metadataOf(headers), isWhole, deps };
  const body = limited(decoded(request));

  const contentType = headers.get("content-type") ?? "";
  const mediaType = contentType.split(";", 1)[0]?.trim().toLowerCase();
  switch (mediaType) {
    case "multipart/form-data":
      return Response.json(await writeParts(partsOf(body, contentType), upload));
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
  /** Leaves no part of a file. */
  readonly isWhole: boolean;
  readonly deps: FilesDeps;
}

function partsOf(body: AsyncIterable<Uint8Array>, contentType: string): AsyncIterable<Part> {
  return readMultipart(body, contentType, {
    partsMax: MULTIPART_PARTS_MAX,
    malformed: (why, cause) =>
      new EnvdError("invalid_argument", `multipart body: ${why}`, { cause }),
  });
}

async function writeParts(parts: AsyncIterable<Part>, upload: Upload): Promise<WrittenFile[]> {
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
    written.set(path, await writeUpload(path, part.content, upload));
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
  const { metadata, user, isWhole, deps } = upload;
  const written = await writeFile(path, body, {
    ...{ user, isWhole },
    users: deps.users,
    finish: async ({ path: entryPath, isNew }) => {
      const isNothing = Object.keys(metadata).length === 0;
      if (!isNew || !isNothing) await deps.metadata.write(entryPath, metadata);
    },
  });
  return Object.keys(metadata).length === 0 ? written : { ...written, metadata };
}

/**
 * Makes or replaces the content of a regular file. Everything is done to what the path led to at the
 * start (see place.ts), `finish` included, which gets a path to the very file, for any process.
 */
async function writeFile(
  path: string,
  body: AsyncIterable<Uint8Array>,
  options: {
    user: User;
    users: Users;
    isWhole?: boolean;
    finish?: (entry: { path: string; isNew: boolean }) => Promise<void>;
  },
): Promise<WrittenFile> {
  const { user, users, isWhole = false, finish } = options;
  using place = openPlace(path, { users, followsLast: true, maker: user });
  if (place === null) throw new Error("unreachable: directories are made");
  requireFile(place, path);
  await using target = new Target(place, path, { user, users });
  try {
    for await (const chunk of body) await writeAll(await target.begin(), chunk);
    const file = await target.begin();
    await finish?.({ path: `/proc/${process.pid}/fd/${file.fd}`, isNew: place.entry === null });
  } catch (error) {
    if (isWhole) await target.discard();
    throw fileError(error, path);
  }
  return { path, name: basename(path), type: "file" };
}

function requireFile(place: Place, path: string): void {
  const stat = place.entry?.stat;
  if (stat === undefined) {
    place.requireChange();
    return;
  }
  if (stat.isDirectory()) {
    throw new EnvdError("invalid_argument", `path '${path}' is a directory`);
  }
  if (!stat.isFile()) throw new EnvdError("invalid_argument", `path '${path}' is no regular file`);
  place.requireEntry(WRITE);
}

/** The file to be written, opened and emptied when the first of the new content is there. */
class Target implements AsyncDisposable {
  readonly #place: Place;
  readonly #path: string;
  readonly #options: { readonly user: User; readonly users: Users };
  #file: FileHandle | null = null;

  constructor(place: Place, path: string, options: { user: User; users: Users }) {
    this.#place = place;
    this.#path = path;
    this.#options = options;
  }

  /** The emptied file, which belongs to the user. */
  async begin(): Promise<FileHandle> {
    if (this.#file !== null) return this.#file;
    this.#file = await this.#open();
    const { user } = this.#options;
    const { uid, gid, size } = await this.#file.stat();
    if (uid !== user.uid || gid !== user.gid) await this.#file.chown(user.uid, user.gid);
    if (size > 0) await this.#file.truncate(0);
    return this.#file;
  }

  /** Removes what was begun, unless another file has its name by now. */
  async discard(): Promise<void> {
    if (this.#file === null) return;
    const { path } = this.#place;
    const [begun, named] = await Promise.all([this.#file.stat(), lstat(path).catch(() => null)]);
    if (named !== null && named.dev === begun.dev && named.ino === begun.ino) await unlink(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
  }

  async #open(): Promise<FileHandle> {
    const { O_WRONLY, O_CREAT, O_EXCL } = constants;
    const place = this.#place;
    if (place.entry !== null) return openEntry(place);
    try {
      return await open(place.path, O_WRONLY | O_CREAT | O_EXCL, FILE_MODE);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
      // Another upload to the same path was faster.
      const { users, user: maker } = this.#options;
      using again = openPlace(this.#path, { users, followsLast: true, maker });
      if (!again?.entry) throw error;
      requireFile(again, this.#path);
      return await openEntry(again);
    }
  }
}

/** Opens what the place has held all along; a pipe that nobody reads would not hold it up. */
function openEntry(place: Place): Promise<FileHandle> {
  return open(place.entryPath, constants.O_WRONLY | constants.O_NONBLOCK);
}

/** Writes all of the chunk where the file is. */
export async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
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
