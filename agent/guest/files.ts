// Files of a guest, as one of its users: relative paths start at the home of that one, who owns what is made,
// and whose rights count.

import { ENVD_RIGHTS_HEADER } from "../../proto/envd-routes.ts";
import {
  type EntryInfo,
  EntryInfoSchema,
  Filesystem,
  FileType,
} from "../../proto/gen/envd/filesystem_pb.js";
import { AgentError } from "../errors.ts";
import {
  FILE_BYTES_MAX,
  REMOVE_TIMEOUT_MS,
  SMALL_ANSWER_BYTES_MAX,
  TRANSFER_IDLE_TIMEOUT_MS,
} from "../limits.ts";
import type { Guest } from "./guest.ts";
import { guestError, guestHttpError } from "./guest-errors.ts";
import { badAnswer, readChunks, readText } from "./guest-http.ts";
import { IdleTimer } from "./idle-timer.ts";
import { callForList } from "./list-call.ts";

/** Of an upload, of a quarter of a MiB each. */
const PIECES_AHEAD = 4;

/** A path, and whose: an empty user is the capsule's default one. */
export interface FilePath {
  readonly path: string;
  readonly user: string;
}

/**
 * Writes the file and its missing parents, replacing what was there. Throws AgentError:
 * invalid_argument (a directory), permission_denied, resource_exhausted (no space, or over the limit of a file),
 * unavailable. An upload that fails or breaks off leaves what was there.
 */
export async function writeFile(
  guest: Guest,
  file: FilePath,
  content: Uint8Array | AsyncIterable<Uint8Array>,
): Promise<void> {
  using _stream = guest.openStream();
  const isHere = content instanceof Uint8Array;
  using ahead = isHere ? null : guest.takeAhead();
  using idle = new IdleTimer(TRANSFER_IDLE_TIMEOUT_MS);
  try {
    const response = await guest.http.send({
      method: "POST",
      // Guests that were saved with an envd before that keep the part of an upload that breaks off.
      path: `${filesPath(file)}&whole=true`,
      headers: { "Content-Type": "application/octet-stream", [ENVD_RIGHTS_HEADER]: "user" },
      body: isHere ? content : upload(content, { idle, piecesAhead: ahead ? PIECES_AHEAD : 0 }),
      signal: AbortSignal.any([guest.awaited, idle.signal]),
    });
    const text = await readText(response, SMALL_ANSWER_BYTES_MAX);
    if (response.status === 200) return;
    throw guestHttpError(response.status, text, file.path);
  } catch (error) {
    throw guestError(error, { ...about(file), closed: guest.closed });
  }
}

/**
 * The content of the file in chunks. Throws AgentError before the first chunk: not_found,
 * invalid_argument (a directory); and later: unavailable.
 */
export async function* readFile(guest: Guest, file: FilePath): AsyncGenerator<Uint8Array> {
  using _stream = guest.openStream();
  using idle = new IdleTimer(TRANSFER_IDLE_TIMEOUT_MS);
  try {
    const response = await guest.http.send({
      method: "GET",
      path: filesPath(file),
      headers: { [ENVD_RIGHTS_HEADER]: "user" },
      signal: AbortSignal.any([guest.awaited, idle.signal]),
    });
    if (response.status !== 200) {
      const text = await readText(response, SMALL_ANSWER_BYTES_MAX);
      throw guestHttpError(response.status, text, file.path);
    }
    let bytes = 0;
    for await (const chunk of response.body ? readChunks(response.body) : []) {
      bytes += chunk.byteLength;
      if (bytes > FILE_BYTES_MAX) throw badAnswer("the file does not end");
      // Only the guest's time counts, not that of whoever takes the chunk.
      idle.pause();
      yield chunk;
      idle.touch();
    }
  } catch (error) {
    throw guestError(error, { ...about(file), closed: guest.closed });
  }
}

/**
 * Entries up to `depth` levels down. Throws AgentError: not_found, invalid_argument (no directory),
 * resource_exhausted (too many).
 */
export async function listDir(
  guest: Guest,
  directory: FilePath,
  depth: number,
): Promise<EntryInfo[]> {
  const { listDir: method } = Filesystem.method;
  const request = { path: directory.path, depth };
  return await callForList(guest, about(directory), { method, request, item: EntryInfoSchema });
}

/** Makes the directory and its parents. Throws AgentError: already_exists. */
export async function makeDir(guest: Guest, directory: FilePath): Promise<EntryInfo> {
  const { path } = directory;
  const { entry } = await guest.call(about(directory), (o) => guest.files.makeDir({ path }, o));
  if (!entry) throw badAnswer("no entry in MakeDir");
  return entry;
}

/**
 * Removes the file or tree. envd's own Remove succeeds on what is missing, as its clients expect;
 * here that is not_found, so it looks first.
 */
export async function removePath(guest: Guest, file: FilePath): Promise<void> {
  const { path } = file;
  await guest.call(about(file), (o) => guest.files.stat({ path }, o));
  await guest.call(about(file), (o) => guest.files.remove({ path }, o), REMOVE_TIMEOUT_MS);
}

/** The words of the wire for an entry's type. A link has its target's, and "symlink" if that is missing. */
export function entryType(entry: EntryInfo): "file" | "directory" | "symlink" | "unknown" {
  switch (entry.type) {
    case FileType.FILE:
      return "file";
    case FileType.DIRECTORY:
      return "directory";
    case FileType.SYMLINK:
      return "symlink";
    default:
      return entry.symlinkTarget === undefined ? "unknown" : "symlink";
  }
}

function about({ user }: FilePath) {
  return { subject: "file", ...(user === "" ? {} : { user }) } as const;
}

function filesPath({ path, user }: FilePath): string {
  return `/files?${new URLSearchParams({ path, ...(user === "" ? {} : { username: user }) })}`;
}

/**
 * The body of an upload; each piece asked for shows that the guest takes what it is sent. A few are here before
 * they are wanted: else the guest and whoever sends would take turns.
 */
function upload(
  pieces: AsyncIterable<Uint8Array>,
  { idle, piecesAhead }: { idle: IdleTimer; piecesAhead: number },
): ReadableStream<Uint8Array> {
  const iterator = pieces[Symbol.asyncIterator]();
  let bytes = 0;
  return new ReadableStream(
    {
      async pull(controller) {
        idle.pause();
        const { done, value } = await iterator.next();
        idle.touch();
        if (done) {
          controller.close();
          return;
        }
        bytes += value.byteLength;
        if (bytes > FILE_BYTES_MAX) {
          throw new AgentError("resource_exhausted", `A file has at most ${FILE_BYTES_MAX} bytes`, {
            subject: "file",
          });
        }
        controller.enqueue(value);
      },
      async cancel() {
        await iterator.return?.();
      },
    },
    { highWaterMark: piecesAhead },
  );
}
