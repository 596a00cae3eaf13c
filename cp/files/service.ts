// Files of a capsule.

import { untilAnswered } from "../../proto/answer-scope.ts";
import type { FileEntry } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { takingAnswer } from "../agents/held-answers.ts";
import { GUEST_CALL_TIMEOUT_MS, LIST_MEMORY_FACTOR } from "../agents/limits.ts";
import type { Revocable } from "../auth/revocable.ts";
import type { RunningCapsule } from "../capsules/find-on-host.ts";
import { AppError } from "../errors.ts";

/** An empty user is the capsule's default one. */
export interface FilePath {
  readonly path: string;
  readonly user: string;
}

const OPTIONS = { timeoutMs: GUEST_CALL_TIMEOUT_MS };

/**
 * The file's content as it arrives; the transfer is over when it is. Fails before the first byte when the file
 * cannot be read; after it, the stream errors, so that a client cannot take a part for the whole.
 */
export async function readFile(
  { capsule, agent, log }: RunningCapsule,
  file: FilePath,
  transfer: Revocable,
): Promise<ReadableStream<Uint8Array>> {
  const sandboxId = encodeId("capsule", capsule.id);
  const reading = new AbortController();
  const options = { signal: AbortSignal.any([transfer.signal, reading.signal]) };
  const chunks = agent.readFileStream({ sandboxId, ...file }, options)[Symbol.asyncIterator]();
  let next = await chunks.next().catch((error) => {
    transfer[Symbol.dispose]();
    throw agentFailure(error, "capsule");
  });
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        transfer.revoked.addEventListener("abort", () => controller.error(undefined));
      },
      async pull(controller) {
        if (next.done === true) {
          transfer[Symbol.dispose]();
          return controller.close();
        }
        controller.enqueue(next.value.chunk);
        try {
          next = await chunks.next();
        } catch (error) {
          transfer[Symbol.dispose]();
          // Nobody is left to be told when it is the client that went away.
          if (options.signal.aborted) return;
          log.warn("reading a file broke off", { capsule: sandboxId, error });
          // Cuts the connection. With a reason Bun would also print that to stderr.
          controller.error(undefined);
        }
      },
      cancel() {
        transfer[Symbol.dispose]();
        reading.abort();
      },
    },
    // Chunks wait in the agent, not here.
    { highWaterMark: 0 },
  );
}

/** Entries below a directory, as deep as asked. */
export async function listDirectory(
  { capsule, agent, hold }: RunningCapsule,
  directory: FilePath & { depth: number },
): Promise<FileEntry[]> {
  const sandboxId = encodeId("capsule", capsule.id);
  const held = hold();
  untilAnswered(held);
  const ask = () => agent.listDir({ sandboxId, ...directory }, OPTIONS);
  const { entries } = await takingAnswer({ held, factor: LIST_MEMORY_FACTOR }, ask).catch(
    (error) => {
      throw agentFailure(error, "capsule");
    },
  );
  return entries;
}

/** Makes a directory and its parents. Throws `conflict` when it exists. */
export async function makeDirectory(
  { capsule, agent }: RunningCapsule,
  directory: FilePath,
): Promise<FileEntry> {
  const sandboxId = encodeId("capsule", capsule.id);
  const { entry } = await agent.makeDir({ sandboxId, ...directory }, OPTIONS).catch((error) => {
    throw agentFailure(error, "capsule");
  });
  if (entry === undefined) throw new AppError("agent_error", "The host gave no answer");
  return entry;
}

/** Removes a file, or a directory with all in it. Throws `not_found` when there is none. */
export async function removePath(
  { capsule, agent }: RunningCapsule,
  file: FilePath,
): Promise<void> {
  const sandboxId = encodeId("capsule", capsule.id);
  await agent.removePath({ sandboxId, ...file }, OPTIONS).catch((error) => {
    throw agentFailure(error, "capsule");
  });
}
