// What a create is answered, whoever asks: the first request, a repeated one, or one whose control
// plane died.

import type { Id } from "../../proto/ids.ts";
import { CREATE_TIMEOUT_MS, DESTROY_TIMEOUT_MS } from "../agents/limits.ts";
import type { Db } from "../db/client.ts";
import { AppError, type ErrorCode, HTTP_STATUS } from "../errors.ts";
import { findKey, type KeyedRequest, keepAnswer } from "../idempotency/service.ts";
import { selectCapsule } from "./queries.ts";
import { type Capsule, type CapsuleRow, toCapsule } from "./schema.ts";

/** A create that waits for another's outcome looks this often: a start takes longer. */
const POLL_MS = 50;
/** The longest a create can take, and the clean-up after it. */
const WAIT_MS = CREATE_TIMEOUT_MS + DESTROY_TIMEOUT_MS;

/**
 * The answer of the first request with the key, once there is one; undefined when the key is free.
 * Throws what the first request threw, and `conflict` when it had another body.
 */
export async function firstAnswer(db: Db, request: KeyedRequest): Promise<Capsule | undefined> {
  const known = await findKey(db, request);
  if (known === undefined) return undefined;
  if (known.status === null) await waitUntilSettled(db, known.capsuleId);

  const kept = await findKey(db, request);
  if (kept !== undefined && kept.status !== null) return replay(kept.response);

  // The control plane that began it is gone; what became of the capsule is the answer.
  return await keepSettled(db, request, known.capsuleId);
}

/** The capsule as its create left it. Throws when it failed, or when it was destroyed meanwhile. */
export async function settledAnswer(db: Db, id: Id<"capsule">): Promise<Capsule> {
  return answerOf(await waitUntilSettled(db, id));
}

async function keepSettled(db: Db, key: KeyedRequest, id: Id<"capsule">): Promise<Capsule> {
  try {
    const answer = await settledAnswer(db, id);
    await keepAnswer(db, key, { status: 201, response: answer });
    return answer;
  } catch (error) {
    if (error instanceof AppError) {
      await keepAnswer(db, key, { status: error.status, response: error.toBody() });
    }
    throw error;
  }
}

async function waitUntilSettled(db: Db, id: Id<"capsule">): Promise<CapsuleRow> {
  const endsAt = Date.now() + WAIT_MS;
  while (Date.now() < endsAt) {
    const row = await selectCapsule(db, id);
    if (row === undefined) throw new AppError("conflict", "the capsule was deleted");
    const isCreating = row.status === "pending" || row.status === "starting";
    const isLost = row.status === "missing" && row.startedAt === null;
    if (!isCreating && !isLost) return row;
    await Bun.sleep(POLL_MS);
  }
  throw new AppError("conflict", "the capsule is still being created");
}

function answerOf(row: CapsuleRow): Capsule {
  if (row.status === "error") throw new AppError("agent_error", row.reason);
  if (row.startedAt === null || row.status === "stopping" || row.status === "stopped") {
    throw new AppError("conflict", "the capsule was destroyed while it was being created");
  }
  return toCapsule(row);
}

/** A kept answer is ours, written by this program or an older one. */
function replay(response: unknown): Capsule {
  const { error } = response as { error?: { code: string; message: string } };
  if (error === undefined) return response as Capsule;
  const code = Object.keys(HTTP_STATUS).find((known): known is ErrorCode => known === error.code);
  throw new AppError(code ?? "internal_error", error.message);
}
