// A repeated request with the same key gets the first one's answer. A key is kept with what it
// created, in one transaction: a request that created nothing leaves its key free.

import type { Id } from "../../proto/ids.ts";
import type { TeamCaller } from "../auth/authenticator.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import { AppError } from "../errors.ts";
import {
  deleteExpiredKey,
  deleteExpiredKeys,
  deleteUnanswered,
  insertKey,
  type KeyOfTeam,
  type KeyRow,
  selectLiveKey,
  updateAnswer,
} from "./queries.ts";

/** How long a client may repeat a request. */
const KEY_TTL_HOURS = 24;

/** A key of a team with the request it came with. */
export interface KeyedRequest extends KeyOfTeam {
  /** Hash of the request: the same key with another one is a mistake of the client. */
  readonly requestHash: string;
}

/** The same for bodies that mean the same, however their fields are ordered. */
function hashRequest(body: Readonly<Record<string, unknown>>): string {
  const fields = Object.entries(body)
    .filter(([, value]) => value !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
  return new Bun.CryptoHasher("sha256").update(JSON.stringify(fields)).digest("hex");
}

/**
 * The key's row if a request has used it; undefined when it is free. Throws `conflict` when that
 * was another request.
 */
export async function findKey(q: Queryable, request: KeyedRequest): Promise<KeyRow | undefined> {
  const row = await selectLiveKey(q, request, KEY_TTL_HOURS);
  if (row !== undefined && row.requestHash !== request.requestHash) {
    throw new AppError("conflict", "idempotency-key: was used with another request");
  }
  return row;
}

/**
 * Whether the key is now bound to the capsule; false when another request has it. `begun` says what
 * else its work was about, until there is an answer.
 */
export async function claimKey(
  tx: Tx,
  { teamId, key, requestHash }: KeyedRequest,
  { capsuleId, begun = null }: { capsuleId: Id<"capsule">; begun?: unknown },
): Promise<boolean> {
  await deleteExpiredKey(tx, { teamId, key }, KEY_TTL_HOURS);
  return await insertKey(tx, { teamId, key, requestHash, capsuleId, response: begun });
}

/**
 * Lets go of a key whose work came to nothing, unless it has an answer. With `createdAt` only if no
 * other request has it by now.
 */
export async function freeKey(q: Queryable, key: KeyOfTeam, createdAt?: Date): Promise<void> {
  await deleteUnanswered(q, key, createdAt);
}

/** Keeps the first answer to the request; a later one changes nothing. */
export async function keepAnswer(
  q: Queryable,
  key: KeyOfTeam,
  answer: { status: number; response: unknown },
): Promise<void> {
  await updateAnswer(q, key, answer);
}

/** Forgets keys past their time, at most `limit`; returns how many. */
export async function expireKeys(db: Db, limit: number): Promise<number> {
  return await deleteExpiredKeys(db, { ttlHours: KEY_TTL_HOURS, limit });
}

/** The request that a key stands for; what it says decides whether another one is the same. */
export function keyed(
  { teamId }: TeamCaller,
  key: string | undefined,
  request: Readonly<Record<string, unknown>>,
): KeyedRequest | undefined {
  return key === undefined ? undefined : { teamId, key, requestHash: hashRequest(request) };
}
