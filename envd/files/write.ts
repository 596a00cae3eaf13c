// POST /files: bodies go to disk as they come.
import { basename } from "node:path";
import { ENVD_RIGHTS_HEADER } from "../../proto/envd-routes.ts";
import { type Part, readMultipart } from "../../proto/http1/multipart.ts";
import { EnvdError, fileError } from "../errors.ts";
import { MULTIPART_PARTS_MAX, UPLOAD_BYTES_MAX, UPLOAD_FILES_MAX } from "../limits.ts";
import { resolvePath } from "../paths.ts";
import type { Settings } from "../settings.ts";
import type { User, Users } from "../users.ts";
import type { FileCalls } from "./file-calls.ts";
import { type Metadata, type MetadataStore, metadataOf } from "./metadata.ts";
import { openPathHandle, type PathHandle, WRITE } from "./path-handle.ts";
import { authorizeFiles } from "./signature.ts";
import { StagedFile } from "./staged-file.ts";

/** What a client is told of a file that was written. */
export interface WrittenFile {
  readonly path: string;
  readonly name: string;
  readonly type: "file";
  /** Absent when there is none. */
  readonly metadata?: Metadata;
}

export interface FilesDeps {
  readonly calls: FileCalls;
  readonly metadata: MetadataStore;
  readonly settings: Settings;
  readonly users: Users;
}

/**
 * Writes one file from an octet stream, or each part named `file` of a form. Missing directories are
 * made; they and new files belong to the user, and a file that was there keeps its owner, its mode and
 * all else but content and metadata. An upload that fails or breaks off leaves what was there as it was,
 * see staged-file.ts; files of the same form that came before stay.
 */
export async function writeFiles(request: Request, deps: FilesDeps): Promise<Response> {
  const { headers } = request;
  const query = new URL(request.url).searchParams;
  authorizeFiles({ headers, query, operation: "write", settings: deps.settings });
  const user = fileUser(query, deps);
  const actor = actorOf(headers, user);
  const upload = { path: query.get("path"), user, actor, metadata: metadataOf(headers), deps };
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

/** Whose rights count for a request of that user's; null: envd's own. */
export function actorOf(headers: Headers, user: User): User | null {
  return headers.get(ENVD_RIGHTS_HEADER) === "user" ? user : null;
}

interface Upload {
  readonly path: string | null;
  readonly user: User;
  readonly actor: User | null;
  readonly metadata: Metadata;
  readonly deps: FilesDeps;
}

function partsOf(body: AsyncIterable<Uint8Array>, contentType: string): AsyncGenerator<Part> {
  return readMultipart(body, contentType, {
    partsMax: MULTIPART_PARTS_MAX,
    malformed: (why, cause) =>
      new EnvdError("invalid_argument", `multipart body: ${why}`, { cause }),
  });
}

/** A file takes its place when what follows it was read: the head of the next part, or the body's end. */
async function writeParts(parts: AsyncGenerator<Part>, upload: Upload): Promise<WrittenFile[]> {
  const written = new Map<string, WrittenFile>();
  let next = await parts.next();
  while (next.done !== true) {
    const part = next.value;
    if (part.name !== "file") {
      next = await parts.next();
      continue;
    }
    const path = placeOf(part, { written, upload });
    const content = (async function* () {
      yield* part.content;
      next = await parts.next();
    })();
    written.set(path, await writeUpload(path, content, upload));
  }
  return [...written.values()];
}

/** Where the file goes. Throws for one without a name or too much, and for a second one there. */
function placeOf(
  { fileName }: Part,
  { written, upload }: { written: ReadonlyMap<string, WrittenFile>; upload: Upload },
): string {
  const given = upload.path || fileName;
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
  return path;
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
  const { metadata, user, actor, deps } = upload;
  const written = await writeFile(path, body, { user, actor, metadata, deps });
  return Object.keys(metadata).length === 0 ? written : { ...written, metadata };
}

/**
 * Makes or replaces a regular file. Everything is done to what the path led to at the start, see
 * path-handle.ts. Throws EnvdError, and what the body throws.
 */
export async function writeFile(
  path: string,
  body: AsyncIterable<Uint8Array>,
  options: { user: User; actor: User | null; metadata: Metadata; deps: FilesDeps },
): Promise<WrittenFile> {
  const { user, actor, metadata, deps } = options;
  const { users } = deps;
  using handle = openPathHandle(path, { users, followsLast: true, maker: user, actor });
  if (handle === null) throw new Error("unreachable: directories are made");
  requireFile(handle, path);
  try {
    await using file = await StagedFile.open(handle, {
      ...{ user, calls: deps.calls },
      requireFile: () => requireFile(handle, path),
      finish: async (entryPath, isNew) => {
        const hasNone = Object.keys(metadata).length === 0;
        if (!isNew || !hasNone) await deps.metadata.write(entryPath, metadata);
      },
    });
    for await (const chunk of body) await file.write(chunk);
    await file.publish();
  } catch (error) {
    throw fileError(error, path);
  }
  return { path, name: basename(path), type: "file" };
}

function requireFile(handle: PathHandle, path: string): void {
  const stat = handle.entry?.stat;
  if (stat === undefined) {
    handle.requireChange();
    return;
  }
  if (stat.isDirectory()) {
    throw new EnvdError("invalid_argument", `path '${path}' is a directory`);
  }
  if (!stat.isFile()) throw new EnvdError("invalid_argument", `path '${path}' is no regular file`);
  handle.requireEntry(WRITE);
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
