// Files as messages of the RPC: one large one, or a stream of chunks.

import { untilAnswered } from "../../proto/answer-scope.ts";
import type { HeldBytes } from "../../proto/byte-budget.ts";
import type { WriteFileStreamRequest } from "../../proto/gen/hostagent/hostagent_pb.js";
import { AgentError, invalidField } from "../errors.ts";
import { FILE_CHUNK_BYTES } from "../limits.ts";

export interface IncomingFile {
  readonly meta: { readonly sandboxId: string; readonly path: string; readonly user: string };
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** Reads as far as the first message, which must be meta. */
export async function receiveFile(
  requests: AsyncIterable<WriteFileStreamRequest>,
): Promise<IncomingFile> {
  const iterator = requests[Symbol.asyncIterator]();
  const first = await iterator.next();
  const content = first.done ? undefined : first.value.content;
  if (content?.case !== "meta") throw invalidField("meta", "must come first");
  return { meta: content.value, chunks: chunksOf(iterator) };
}

async function* chunksOf(
  messages: AsyncIterator<WriteFileStreamRequest>,
): AsyncGenerator<Uint8Array> {
  for (;;) {
    const { done, value } = await messages.next();
    if (done) return;
    if (value.content.case !== "chunk") throw invalidField("chunk", "must follow meta");
    // An empty chunk would be taken for the end of an HTTP body.
    if (value.content.value.byteLength > 0) yield value.content.value;
  }
}

/**
 * The whole file; `resource_exhausted` if it is larger than one message may be. What `held` takes for it
 * is given back when the answer has been taken.
 */
export async function wholeFile(
  chunks: AsyncIterable<Uint8Array>,
  { bytesMax, held }: { bytesMax: number; held: HeldBytes },
): Promise<Uint8Array> {
  untilAnswered(held);
  const kept: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) {
      throw new AgentError("resource_exhausted", `The file is larger than ${bytesMax} bytes`, {
        subject: "file",
      });
    }
    held.take(chunk.byteLength);
    kept.push(chunk);
  }
  return Buffer.concat(kept);
}

/** The same bytes in pieces of at most a message's size. */
export async function* rechunk(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    for (let start = 0; start < chunk.byteLength; start += FILE_CHUNK_BYTES) {
      yield chunk.subarray(start, start + FILE_CHUNK_BYTES);
    }
  }
}
