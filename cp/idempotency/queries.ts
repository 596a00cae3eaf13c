// SQL of idempotency keys.

import { and, eq, isNull, lt, not, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { idempotencyKeys } from "../db/tables.ts";

export type KeyRow = typeof idempotencyKeys.$inferSelect;

export interface KeyOfTeam {
  readonly teamId: Id<"team">;
  readonly key: string;
}

/**
 * Whether the key is the caller's from now on. While another transaction is about to take it, waits
 * for that one to end.
 */
export async function insertKey(
  q: Queryable,
  row: KeyOfTeam & Pick<KeyRow, "requestHash" | "subjectKind" | "subjectIds">,
): Promise<boolean> {
  const inserted = await q
    .insert(idempotencyKeys)
    .values(row)
    .onConflictDoNothing()
    .returning({ key: idempotencyKeys.key });
  return inserted.length === 1;
}

/** The row of the key unless it is older than that. */
export async function selectLiveKey(
  q: Queryable,
  key: KeyOfTeam,
  ttlHours: number,
): Promise<KeyRow | undefined> {
  const [row] = await q
    .select()
    .from(idempotencyKeys)
    .where(and(isKey(key), not(isOlderThan(ttlHours))));
  return row;
}

/** Keeps the first outcome; a later one changes nothing. */
export async function updateOutcome(
  q: Queryable,
  key: KeyOfTeam,
  outcome: Pick<KeyRow, "code" | "reason" | "message">,
): Promise<void> {
  await q
    .update(idempotencyKeys)
    .set(outcome)
    .where(and(isKey(key), isNull(idempotencyKeys.code)));
}

/** Frees the key if it is older than that. */
export async function deleteExpiredKey(
  q: Queryable,
  key: KeyOfTeam,
  ttlHours: number,
): Promise<void> {
  await q.delete(idempotencyKeys).where(and(isKey(key), isOlderThan(ttlHours)));
}

/** Deletes the key if its work has not ended, and only if it is of that time when one is given. */
export async function deleteUnended(q: Queryable, key: KeyOfTeam, createdAt?: Date): Promise<void> {
  // A Date has no microseconds.
  const time = sql`date_trunc('milliseconds', ${idempotencyKeys.createdAt})`;
  const isSame = createdAt === undefined ? undefined : sql`${time} = ${createdAt.toISOString()}`;
  await q.delete(idempotencyKeys).where(and(isKey(key), isNull(idempotencyKeys.code), isSame));
}

/** Deletes up to `limit` keys older than that; returns how many. */
export async function deleteExpiredKeys(
  q: Queryable,
  { ttlHours, limit }: { ttlHours: number; limit: number },
): Promise<number> {
  const row = sql`(${idempotencyKeys.teamId}, ${idempotencyKeys.key})`;
  const expired = q
    .select({ teamId: idempotencyKeys.teamId, key: idempotencyKeys.key })
    .from(idempotencyKeys)
    .where(isOlderThan(ttlHours))
    .limit(limit);
  const deleted = await q
    .delete(idempotencyKeys)
    .where(sql`${row} in ${expired}`)
    .returning({ key: idempotencyKeys.key });
  return deleted.length;
}

function isKey({ teamId, key }: KeyOfTeam) {
  return and(eq(idempotencyKeys.teamId, teamId), eq(idempotencyKeys.key, key));
}

function isOlderThan(hours: number) {
  return lt(idempotencyKeys.createdAt, sql`now() - make_interval(hours => ${hours}::int)`);
}
