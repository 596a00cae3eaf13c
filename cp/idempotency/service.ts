// A repeated request with the same key gets what the first one came to. A key is kept with what it
// began, in one transaction: a request that began nothing leaves its key free.

import { type Id, idFromUuid } from "../../proto/ids.ts";
import type { TeamCaller } from "../auth/authenticator.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import { AppError } from "../errors.ts";
import {
  deleteExpiredKey,
  deleteExpiredKeys,
  deleteUnended,
  insertKey,
  type KeyOfTeam,
  type KeyRow,
  selectLiveKey,
  updateOutcome,
} from "./queries.ts";

/** How long a client may repeat a request. */
const KEY_TTL_HOURS = 24;

/** What a request with a key begins: one capsule or several, or a template. */
interface SubjectIds {
  readonly capsule: Id<"capsule">;
  readonly template: string;
}
export type SubjectKind = keyof SubjectIds;
export type SubjectId<K extends SubjectKind> = SubjectIds[K];
/** At least one. */
export type Subject<K extends SubjectKind> = readonly [SubjectId<K>, ...SubjectId<K>[]];

const TO_SUBJECT: { [K in SubjectKind]: (uuid: string) => SubjectId<K> } = {
  capsule: (uuid) => idFromUuid("capsule", uuid),
  template: (uuid) => uuid,
};

/** A key of a team with the request it came with. */
export interface KeyedRequest extends KeyOfTeam {
  /** Hash of the request: the same key with another one is a mistake of the client. */
  readonly requestHash: string;
}

/** The same for bodies that mean the same, however their fields are ordered. */
function hashRequest(body: Readonly<Record<string, unknown>>): string {
  const fields = inOrder(body).filter(([, value]) => value !== undefined);
  return new Bun.CryptoHasher("sha256").update(JSON.stringify(fields, withOrder)).digest("hex");
}

/** For JSON.stringify: objects with their fields in order. */
function withOrder(_: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(inOrder(value));
}

function inOrder(object: object): [string, unknown][] {
  return Object.entries(object).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/**
 * The key's row if a request has used it; undefined when it is free. Throws `conflict` when that
 * was another request.
 */
export async function findKey(q: Queryable, request: KeyedRequest): Promise<KeyRow | undefined> {
  const row = await selectLiveKey(q, request, KEY_TTL_HOURS);
  if (row !== undefined && row.requestHash !== request.requestHash) throw usedOtherwise();
  return row;
}

/** Whether the key is bound to these from now on; false when another request has it. */
export async function claimKey<K extends SubjectKind>(
  tx: Tx,
  { teamId, key, requestHash }: KeyedRequest,
  { kind, ids }: { kind: K; ids: readonly SubjectId<K>[] },
): Promise<boolean> {
  await deleteExpiredKey(tx, { teamId, key }, KEY_TTL_HOURS);
  const subject = { subjectKind: kind, subjectIds: [...ids] };
  return await insertKey(tx, { teamId, key, requestHash, ...subject });
}

/** What the key is bound to. Throws `conflict` when that is of another kind. */
export function subjectOf<K extends SubjectKind>(row: KeyRow, kind: K): Subject<K> {
  if (row.subjectKind !== kind) throw usedOtherwise();
  const [first, ...others] = row.subjectIds.map(TO_SUBJECT[kind]);
  if (first === undefined) throw new Error("unreachable: a key that is bound to nothing");
  return [first, ...others];
}

/**
 * Lets go of a key whose work came to nothing, unless it has ended. With `createdAt` only if no
 * other request has it by now.
 */
export async function freeKey(q: Queryable, key: KeyOfTeam, createdAt?: Date): Promise<void> {
  await deleteUnended(q, key, createdAt);
}

/** Keeps how the request's work ended, null for well; what ends later changes nothing. */
export async function keepOutcome(
  q: Queryable,
  key: KeyOfTeam,
  failure: AppError | null,
): Promise<void> {
  const { code = "", reason = "", message = "" } = failure ?? {};
  await updateOutcome(q, key, { code, reason, message });
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

function usedOtherwise(): AppError {
  return new AppError("conflict", "idempotency-key: was used with another request");
}
