// GET /files: a file on its way to a client, never more than a chunk of it in memory.
import type { BigIntStats } from "node:fs";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { basename } from "node:path";
import { EnvdError, fileError } from "../errors.ts";
import { FILE_CHUNK_BYTES, FILE_WHOLE_BYTES_MAX, HANDLE_KEPT_MS } from "../limits.ts";
import { resolvePath } from "../paths.ts";
import type { User, Users } from "../users.ts";
import { openPathHandle, READ } from "./path-handle.ts";
import {
  type ByteRange,
  compressedTag,
  type FileVersion,
  isNotModified,
  requestedRange,
} from "./range.ts";
import { authorizeFiles } from "./signature.ts";
import { actorOf, type FilesDeps, fileUser } from "./write.ts";

/**
 * Answers with the file that the path leads to, links followed. A range is one of the plain content;
 * otherwise it is compressed when the client prefers that. The length is announced of all but
 * compressed content and files of /proc; when a file shrinks while it is sent, the connection is closed
 * at once. HEAD is answered as GET would be, without reading more than shows whether it can be read.
 */
export async function readFile(request: Request, deps: FilesDeps): Promise<Response> {
  const { headers } = request;
  const query = new URL(request.url).searchParams;
  authorizeFiles({ headers, query, operation: "read", settings: deps.settings });
  const user = fileUser(query, deps);
  const path = resolvePath(query.get("path") ?? "", user, deps.settings.defaultWorkdir);

  const file = await openForReading(path, { users: deps.users, actor: actorOf(headers, user) });
  try {
    return await answer(file, path, request);
  } catch (error) {
    await file.close();
    throw fileError(error, path);
  }
}

/** The file, opened for reading; whoever opens it closes it. */
export async function openForReading(
  path: string,
  { users, actor }: { users: Users; actor: User | null },
): Promise<FileHandle> {
  using handle = openPathHandle(path, { users, followsLast: true, maker: null, actor });
  if (!handle?.entry) throw new EnvdError("not_found", `path '${path}' does not exist`);
  handle.requireEntry(READ);
  try {
    return await open(handle.entryPath, constants.O_RDONLY | constants.O_NONBLOCK);
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
  const accepted = acceptedEncodings(request.headers.get("accept-encoding"));
  if (isNotModified(request.headers, version)) {
    await file.close();
    return new Response(null, { status: 304, headers });
  }
  const isRanged =
    request.method === "GET" && request.headers.has("range") && accepted.identity > 0;
  const encoding = isRanged ? "identity" : preferred(accepted);
  if (encoding === "gzip") {
    headers.set("content-encoding", "gzip");
    headers.set("etag", compressedTag(version.etag));
  }
  const isStreamed = encoding === "gzip" || version.sizeBytes === 0;
  const first = await firstOf(file, isStreamed ? FILE_CHUNK_BYTES : 1);
  if (request.method === "HEAD") return answerHead(file, { version, headers, encoding, first });
  const range = isRanged && version.sizeBytes > 0 ? requestedRange(request.headers, version) : null;
  if (range !== null) return answerPart(file, { version, headers, range });
  // Files of /proc say that they are empty and are not.
  if (isStreamed && (encoding === "gzip" || first.length > 0)) {
    const content = contentOf(file, first);
    const isPlain = encoding === "identity";
    const body = isPlain ? content : content.pipeThrough(new CompressionStream("gzip"));
    return new Response(body, { headers });
  }
  const whole = { start: 0, end: version.sizeBytes };
  return new Response(await bodyOf(file, whole, headers), { headers });
}

/** The beginning. Fails for what cannot be read before anything is answered. */
async function firstOf(file: FileHandle, sizeBytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  const room = new Uint8Array(sizeBytesMax);
  const { bytesRead } = await file.read(room, 0, room.length, 0);
  return room.subarray(0, bytesRead);
}

interface Head {
  readonly version: FileVersion;
  readonly headers: Headers;
}

async function answerHead(
  file: FileHandle,
  head: Head & { encoding: "identity" | "gzip"; first: Uint8Array },
): Promise<Response> {
  const { version, headers, encoding, first } = head;
  await file.close();
  const isOfUnknownLength = encoding === "gzip" || (version.sizeBytes === 0 && first.length > 0);
  // Without a word of its own Bun says that there is none.
  if (isOfUnknownLength) headers.set("transfer-encoding", "chunked");
  else headers.set("content-length", String(version.sizeBytes));
  return new Response(null, { headers });
}

async function answerPart(file: FileHandle, part: Head & { range: ByteRange }): Promise<Response> {
  const { version, headers, range } = part;
  headers.set("content-range", `bytes ${range.start}-${range.end - 1}/${version.sizeBytes}`);
  return new Response(await bodyOf(file, range, headers), { status: 206, headers });
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
  let length = 0;
  while (length < sizeBytes) {
    const { bytesRead } = await file.read(body, length, sizeBytes - length, range.start + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  // Files of /sys say that they have a page and have less; and any file may shrink.
  if (length < sizeBytes && headers.has("content-range")) {
    throw new EnvdError("failed_precondition", "the file has shrunk");
  }
  await file.close();
  return body.subarray(0, length);
}

/** All there is to read; the file is closed at its end or when nobody reads any more. */
function contentOf(
  file: FileHandle,
  first: Uint8Array<ArrayBuffer>,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let at = 0;
  const read = async () => {
    const room = new Uint8Array(FILE_CHUNK_BYTES);
    const { bytesRead } = await file.read(room, 0, room.length, at);
    return room.subarray(0, bytesRead);
  };
  return new ReadableStream({
    async pull(controller) {
      try {
        const chunk = at === 0 ? first : await read();
        at += chunk.length;
        if (chunk.length > 0) return controller.enqueue(chunk);
        controller.close();
      } catch (error) {
        controller.error(error);
      }
      await file.close();
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
    ...lastModified(version.modifiedAt),
    etag: version.etag,
    vary: "Accept-Encoding",
  });
}

/** HTTP knows the years 0 to 9999. */
function lastModified(date: Date): Record<string, string> {
  const year = date.getUTCFullYear();
  return year >= 0 && year <= 9999 ? { "last-modified": date.toUTCString() } : {};
}

function encodeExtended(name: string): string {
  return encodeURIComponent(name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
}

interface Weights {
  readonly identity: number;
  readonly gzip: number;
}

/** How much the client wants each of the encodings that there are; 0: not at all. */
function acceptedEncodings(accepted: string | null): Weights {
  if (accepted === null || accepted.trim() === "") return { identity: 1, gzip: 0 };
  const weights = new Map<string, number>();
  for (const item of accepted.split(",")) {
    const [name = "", ...parameters] = item.split(";").map((part) => part.trim().toLowerCase());
    const q = parameters.find((parameter) => parameter.startsWith("q="))?.slice(2);
    weights.set(name === "x-gzip" ? "gzip" : name, q === undefined ? 1 : Number(q));
  }
  const any = weights.get("*");
  const gzip = weights.get("gzip") ?? any ?? 0;
  const identity = weights.get("identity") ?? (any === 0 ? 0 : 0.001);
  if (gzip > 0 || identity > 0) return { identity, gzip };
  throw new EnvdError("not_acceptable", `no acceptable encoding found for '${accepted}'`);
}

function preferred({ identity, gzip }: Weights): "identity" | "gzip" {
  return gzip > 0 && gzip >= identity ? "gzip" : "identity";
}
