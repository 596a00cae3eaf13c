// GET /files: a file on its way to a client, never more than a chunk of it in memory.
import type { BigIntStats } from "node:fs";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { basename } from "node:path";
import { EnvdError, fileError } from "../errors.ts";
import { FILE_CHUNK_BYTES, FILE_WHOLE_BYTES_MAX, HANDLE_KEPT_MS } from "../limits.ts";
import { resolvePath } from "../paths.ts";
import type { Users } from "../users.ts";
import { openPlace, READ } from "./place.ts";
import { type ByteRange, type FileVersion, isNotModified, requestedRange } from "./range.ts";
import { authorizeFiles } from "./signature.ts";
import { type FilesDeps, fileUser } from "./write.ts";

/**
 * Answers with the file that the path leads to, links followed. Ranges and conditions count for the
 * plain content; otherwise it is compressed when the client prefers that. The length is announced of
 * all but compressed content and files of /proc and /sys; when a file shrinks while it is sent, the
 * connection is closed at once.
 */
export async function readFile(request: Request, deps: FilesDeps): Promise<Response> {
  const { headers } = request;
  const query = new URL(request.url).searchParams;
  authorizeFiles({ headers, query, operation: "read", settings: deps.settings });
  const user = fileUser(query, deps);
  const path = resolvePath(query.get("path") ?? "", user, deps.settings.defaultWorkdir);

  const file = await openForReading(path, deps.users);
  try {
    return await answer(file, path, request);
  } catch (error) {
    await file.close();
    throw fileError(error, path);
  }
}

/** The file, opened for reading; whoever opens it closes it. */
export async function openForReading(path: string, users: Users): Promise<FileHandle> {
  using place = openPlace(path, { users, followsLast: true, maker: null });
  if (!place?.entry) throw new EnvdError("not_found", `path '${path}' does not exist`);
  place.requireEntry(READ);
  try {
    return await open(place.entryPath, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw fileError(error, path);
  }
}

async function answer(file: FileHandle, path: string, request: Request): Promise<Response> {
  const stat = await file.stat({ bigint: true });
  if (stat.isDirectory()) throw new EnvdError("invalid_argument", `path '${path}' is a directory`);
  if (!stat.isFile()) throw new EnvdError("invalid_argument", `path '${path}' is no regular file`);

  const version = versionOf(stat);
  const headers = headersOf(path, version);
  if (request.headers.has("range") || isConditional(request.headers)) {
    return answerConditional(file, { request, version, headers });
  }
  const encoding = chooseEncoding(request.headers.get("accept-encoding"));
  if (encoding === "gzip") {
    headers.set("content-encoding", "gzip");
    const body = contentOf(file).pipeThrough(new CompressionStream("gzip"));
    return new Response(request.method === "HEAD" ? null : body, { headers });
  }
  return answerWhole(file, { request, version, headers });
}

interface Answer {
  readonly request: Request;
  readonly version: FileVersion;
  readonly headers: Headers;
}

async function answerConditional(file: FileHandle, answer: Answer): Promise<Response> {
  const { request, version, headers } = answer;
  if (isNotModified(request.headers, version)) {
    await file.close();
    return new Response(null, { status: 304, headers });
  }
  const range = version.sizeBytes === 0 ? null : requestedRange(request.headers, version);
  if (range === null) return answerWhole(file, answer);
  headers.set("content-range", `bytes ${range.start}-${range.end - 1}/${version.sizeBytes}`);
  return new Response(await bodyOf(file, range, headers), { status: 206, headers });
}

async function answerWhole(file: FileHandle, answer: Answer): Promise<Response> {
  const { version, headers } = answer;
  // Files of /proc and /sys say that they are empty and are not.
  const isEmpty =
    version.sizeBytes === 0 && (await file.read(Buffer.alloc(1), 0, 1, 0)).bytesRead === 0;
  if (version.sizeBytes === 0 && !isEmpty) return new Response(contentOf(file), { headers });
  if (answer.request.method === "HEAD") {
    await file.close();
    headers.set("content-length", String(version.sizeBytes));
    return new Response(null, { headers });
  }
  const body = await bodyOf(file, { start: 0, end: version.sizeBytes }, headers);
  return new Response(body, { headers });
}

/**
 * The part as a body. What is small is read here. The rest Bun sends by itself, with its length and by
 * sendfile(2); where the file ends early it would wait, so the connection is closed after it.
 */
async function bodyOf(
  file: FileHandle,
  range: ByteRange,
  headers: Headers,
): Promise<Uint8Array<ArrayBuffer> | Blob> {
  const sizeBytes = range.end - range.start;
  if (sizeBytes > FILE_WHOLE_BYTES_MAX) {
    headers.set("connection", "close");
    // Bun opens this name when it is given the response, which is before any timer.
    setTimeout(() => file.close(), HANDLE_KEPT_MS);
    return Bun.file(`/proc/self/fd/${file.fd}`).slice(range.start, range.end);
  }
  const body = new Uint8Array(sizeBytes);
  for (let at = 0; at < sizeBytes; ) {
    const { bytesRead } = await file.read(body, at, sizeBytes - at, range.start + at);
    if (bytesRead === 0) throw new EnvdError("failed_precondition", "the file has shrunk");
    at += bytesRead;
  }
  await file.close();
  return body;
}

/** All there is to read; the file is closed at its end or when nobody reads any more. */
function contentOf(file: FileHandle): ReadableStream<Uint8Array<ArrayBuffer>> {
  let at = 0;
  return new ReadableStream({
    async pull(controller) {
      const room = new Uint8Array(FILE_CHUNK_BYTES);
      const { bytesRead } = await file.read(room, 0, room.length, at);
      at += bytesRead;
      if (bytesRead > 0) {
        controller.enqueue(room.subarray(0, bytesRead));
        return;
      }
      await file.close();
      controller.close();
    },
    cancel: () => file.close(),
  });
}

function versionOf(stat: BigIntStats): FileVersion {
  return {
    sizeBytes: Number(stat.size),
    etag: `"${stat.mtimeNs.toString(16)}-${stat.size.toString(16)}"`,
    modifiedAt: stat.mtime,
  };
}

function headersOf(path: string, version: FileVersion): Headers {
  return new Headers({
    "content-type": Bun.file(path).type,
    "content-disposition": `inline; filename*=UTF-8''${encodeExtended(basename(path))}`,
    "accept-ranges": "bytes",
    "last-modified": version.modifiedAt.toUTCString(),
    etag: version.etag,
    vary: "Accept-Encoding",
  });
}

function encodeExtended(name: string): string {
  return encodeURIComponent(name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
}

function isConditional(headers: Headers): boolean {
  return headers.has("if-none-match") || headers.has("if-modified-since");
}

/** identity or gzip, by the client's weights; not_acceptable when it takes neither. */
function chooseEncoding(accepted: string | null): "identity" | "gzip" {
  if (accepted === null || accepted.trim() === "") return "identity";
  const weights = new Map<string, number>();
  for (const item of accepted.split(",")) {
    const [name = "", ...parameters] = item.split(";").map((part) => part.trim().toLowerCase());
    const q = parameters.find((parameter) => parameter.startsWith("q="))?.slice(2);
    weights.set(name === "x-gzip" ? "gzip" : name, q === undefined ? 1 : Number(q));
  }
  const any = weights.get("*");
  const gzip = weights.get("gzip") ?? any ?? 0;
  const identity = weights.get("identity") ?? (any === 0 ? 0 : 0.001);
  if (gzip > 0 && gzip >= identity) return "gzip";
  if (identity > 0) return "identity";
  throw new EnvdError("not_acceptable", `no acceptable encoding found for '${accepted}'`);
}
