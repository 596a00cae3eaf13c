// A file on its way from a multipart body into a capsule: streamed when its path comes first, as
// clients send it; held once, and bounded, when it comes after.

import type { HeldBytes } from "../../proto/byte-budget.ts";
import { FILE_WRITE_BYTES_MAX, PATH_BYTES_MAX } from "../../proto/hostagent/bounds.ts";
import { type Part, readMultipart } from "../../proto/http1/multipart.ts";
import { encodeId } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { FILE_WRITE_TIMEOUT_MS, STREAM_CHUNK_BYTES } from "../agents/limits.ts";
import type { RunningCapsule } from "../capsules/find-on-host.ts";
import {
  MULTIPART_OVERHEAD_BYTES_MAX,
  MULTIPART_PARTS_MAX,
  UPLOAD_SILENCE_MS_MAX,
} from "../capsules/limits.ts";
import { AppError } from "../errors.ts";

export interface Upload {
  readonly contentType: string;
  /** As declared; null when the client streams. */
  readonly contentLengthBytes: number | null;
  readonly body: AsyncIterable<Uint8Array>;
  /** Whose files are written; empty: the capsule's default user's. */
  readonly user: string;
  readonly signal: AbortSignal;
}

/**
 * Writes the body's part `file` to the path in its part `path`. Throws `too_large` beyond 100 MiB,
 * before anything is written when the length is declared, and `invalid_request` naming the part.
 */
export async function writeUpload(running: RunningCapsule, upload: Upload): Promise<void> {
  const bytesMax = FILE_WRITE_BYTES_MAX + MULTIPART_OVERHEAD_BYTES_MAX;
  if ((upload.contentLengthBytes ?? 0) > bytesMax) throw fileTooLarge();

  const limits = { user: upload.user, signal: upload.signal, timeoutMs: FILE_WRITE_TIMEOUT_MS };
  let path: string | undefined;
  using memory = running.hold();
  let held: Uint8Array[] | undefined;
  let isWritten = false;
  const parts = partsOf(bounded(upload.body, bytesMax), upload);
  for await (const { name, content } of parts) {
    if (name === "path") {
      if (path !== undefined) throw new AppError("invalid_request", "path: given twice");
      path = await readPath(content);
    } else if (name === "file") {
      if (isWritten || held !== undefined) {
        throw new AppError("invalid_request", "file: given twice");
      }
      if (path === undefined) {
        held = await readHeld(content, memory);
      } else {
        await sendFile(running, {
          path,
          content: toBodyEnd(bounded(content, FILE_WRITE_BYTES_MAX), parts),
          ...limits,
        });
        isWritten = true;
      }
    }
  }
  if (path === undefined) throw new AppError("invalid_request", "path: is required");
  if (held !== undefined) {
    await sendFile(running, { path, content: toAsync(held), ...limits });
  } else if (!isWritten) {
    throw new AppError("invalid_request", "file: is required");
  }
}

/**
 * Writes the body's part `file`, of any size, to the path in the part `path`, which must come first:
 * nothing is held here. Throws `invalid_request` naming the part, also when the client stops sending.
 */
export async function writeStreamedUpload(running: RunningCapsule, upload: Upload): Promise<void> {
  let path: string | undefined;
  let isWritten = false;
  const parts = partsOf(moving(upload.body), upload);
  for await (const { name, content } of parts) {
    if (name === "path") {
      if (path !== undefined) throw new AppError("invalid_request", "path: given twice");
      path = await readPath(content);
    } else if (name === "file") {
      if (isWritten) throw new AppError("invalid_request", "file: given twice");
      if (path === undefined) throw new AppError("invalid_request", "path: must come before file");
      const { user, signal } = upload;
      const whole = toBodyEnd(content, parts);
      await sendFile(running, { path, user, content: whole, signal, timeoutMs: null });
      isWritten = true;
    }
  }
  if (!isWritten) throw new AppError("invalid_request", "file: is required");
}

function partsOf(
  body: AsyncIterable<Uint8Array>,
  { contentType }: Pick<Upload, "contentType">,
): AsyncGenerator<Part> {
  return readMultipart(body, contentType, {
    partsMax: MULTIPART_PARTS_MAX,
    malformed: (why, cause) => new AppError("invalid_request", `multipart body: ${why}`, { cause }),
  });
}

/**
 * The file's bytes, ending when all of the body was read: what it is sent to puts it in the place of an
 * older file then, which must stay when the client was cut off, or sends another file or path.
 */
async function* toBodyEnd(
  content: AsyncIterable<Uint8Array>,
  parts: AsyncGenerator<Part>,
): AsyncGenerator<Uint8Array> {
  yield* content;
  for await (const { name } of parts) {
    if (name === "path" || name === "file") {
      throw new AppError("invalid_request", `${name}: given twice`);
    }
  }
}

/** The same bytes; fails when none comes for so long that the client must be gone. */
async function* moving(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const chunks = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      const silence = Promise.withResolvers<never>();
      const timer = setTimeout(
        () => silence.reject(new AppError("invalid_request", "file: the client stopped sending")),
        UPLOAD_SILENCE_MS_MAX,
      );
      const next = await Promise.race([chunks.next(), silence.promise]).finally(() =>
        clearTimeout(timer),
      );
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    // A read that waits for the client would hold up its own end.
    void chunks.return?.()?.catch(() => {});
  }
}

async function readPath(content: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of content) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > PATH_BYTES_MAX) {
      throw new AppError("invalid_request", `path: is longer than ${PATH_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  const path = decodePath(Buffer.concat(chunks));
  if (path === "") throw new AppError("invalid_request", "path: is empty");
  if (path.includes("\0")) throw new AppError("invalid_request", "path: contains a NUL");
  return path;
}

function decodePath(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new AppError("invalid_request", "path: is no UTF-8", { cause });
  }
}

async function readHeld(
  content: AsyncIterable<Uint8Array>,
  memory: HeldBytes,
): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  // A chunk is a window on a buffer that its reader goes on to use.
  for await (const chunk of bounded(content, FILE_WRITE_BYTES_MAX)) {
    memory.take(chunk.byteLength);
    chunks.push(chunk.slice());
  }
  return chunks;
}

async function* bounded(
  content: AsyncIterable<Uint8Array>,
  bytesMax: number,
): AsyncGenerator<Uint8Array> {
  let sizeBytes = 0;
  for await (const chunk of content) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > bytesMax) throw fileTooLarge();
    yield chunk;
  }
}

async function* toAsync(chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

async function sendFile(
  { capsule, agent }: RunningCapsule,
  file: {
    path: string;
    user: string;
    content: AsyncIterable<Uint8Array>;
    signal: AbortSignal;
    /** null for a file that takes its time; each of its bytes still has to come soon. */
    timeoutMs: number | null;
  },
): Promise<void> {
  const sandboxId = encodeId("capsule", capsule.id);
  // A fault of the client's body ends the call to the agent, and is what the client should hear of.
  let bodyFault: unknown;
  async function* messages() {
    const meta = { sandboxId, path: file.path, user: file.user };
    yield { content: { case: "meta" as const, value: meta } };
    try {
      for await (const bytes of file.content) {
        for (let start = 0; start < bytes.byteLength; start += STREAM_CHUNK_BYTES) {
          const chunk = bytes.subarray(start, start + STREAM_CHUNK_BYTES);
          yield { content: { case: "chunk" as const, value: chunk } };
        }
      }
    } catch (error) {
      bodyFault = error;
      throw error;
    }
  }
  const { signal, timeoutMs } = file;
  const options = { signal, ...(timeoutMs === null ? {} : { timeoutMs }) };
  await agent.writeFileStream(messages(), options).catch((error) => {
    throw bodyFault ?? agentFailure(error, "capsule");
  });
}

function fileTooLarge(): AppError {
  return new AppError("too_large", `file: is larger than ${FILE_WRITE_BYTES_MAX} bytes`);
}
