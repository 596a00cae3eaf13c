// SQL of the record of who changed what.

import {
  and,
  asc,
  desc,
  eq,
  gt,
  inArray,
  isNotNull,
  isNull,
  lt,
  lte,
  type SQL,
  sql,
} from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Db, Queryable } from "../db/client.ts";
import { auditLogs } from "../db/tables.ts";
import type { AuditFilter, AuditRow } from "./entry.ts";

/** Any constant: it names the lock under which rows get their positions. */
const POSITIONS_LOCK = 7_221_505;

export async function insertAuditLogs(
  q: Queryable,
  rows: readonly (typeof auditLogs.$inferInsert)[],
): Promise<void> {
  await q.insert(auditLogs).values([...rows]);
}

/**
 * Gives every row that is committed a position after all that have one. Transactions commit in another order
 * than they began or wrote in: by time or by a sequence, a row could appear before one that a reader has seen.
 */
export async function placeAuditLogs(db: Db): Promise<number> {
  const unplaced = await db
    .select({ id: auditLogs.id })
    .from(auditLogs)
    .where(isNull(auditLogs.position))
    .limit(1);
  if (unplaced.length === 0) return 0;
  return await db.transaction(async (tx) => {
    // Before the statement that looks, which then sees what the holder before has placed.
    await tx.execute(sql`select pg_advisory_xact_lock(${POSITIONS_LOCK})`);
    const placed = await tx.execute(sql`
      with top as (select coalesce(max(position), 0) as position from audit_logs),
      next as (
        select id, row_number() over (order by created_at, id) as number
        from audit_logs where position is null)
      update audit_logs set position = top.position + next.number
      from top, next where audit_logs.id = next.id returning audit_logs.id`);
    return placed.length;
  });
}

/** Rows that come before a position, or before an instant, newest first. */
export async function selectAuditLogs(
  q: Queryable,
  { limit, ...page }: AuditFilter & { position?: number; before?: Date; limit: number },
): Promise<AuditRow[]> {
  const { position, before } = page;
  const isEarlier =
    position === undefined
      ? before && lt(auditLogs.createdAt, before)
      : lt(auditLogs.position, position);
  return await q
    .select()
    .from(auditLogs)
    .where(and(matches(page), isEarlier))
    .orderBy(desc(auditLogs.position))
    .limit(limit);
}

/** Rows after a position up to another one, oldest first. */
export async function selectAuditLogsAfter(
  q: Queryable,
  { limit, ...part }: AuditFilter & { after: number; upTo: number; limit: number },
): Promise<AuditRow[]> {
  const isWithin = and(gt(auditLogs.position, part.after), lte(auditLogs.position, part.upTo));
  return await q
    .select()
    .from(auditLogs)
    .where(and(matches(part), isWithin))
    .orderBy(asc(auditLogs.position))
    .limit(limit);
}

/** Where the row is; undefined when the team has none of that id, maybe any more. */
export async function findPosition(
  q: Queryable,
  { teamId, id }: { teamId: Id<"team">; id: Id<"auditLog"> },
): Promise<number | undefined> {
  const [row] = await q
    .select({ position: auditLogs.position })
    .from(auditLogs)
    .where(and(eq(auditLogs.teamId, teamId), eq(auditLogs.id, id)));
  return row?.position ?? undefined;
}

/** The highest position so far, 0 if there is none. */
export async function lastPosition(q: Queryable): Promise<number> {
  const [row] = await q
    .select({ position: sql<number>`coalesce(max(position), 0)::float8` })
    .from(auditLogs);
  return row?.position ?? 0;
}

/** Deletes rows older than that among the `limit` oldest; returns how many. */
export async function deleteOldAuditLogs(
  q: Queryable,
  { days, limit }: { days: number; limit: number },
): Promise<number> {
  const oldest = q
    .select({ id: auditLogs.id })
    .from(auditLogs)
    .where(isNotNull(auditLogs.position))
    .orderBy(asc(auditLogs.position))
    .limit(limit);
  const isOld = lt(auditLogs.createdAt, sql`now() - make_interval(days => ${days}::int)`);
  const deleted = await q
    .delete(auditLogs)
    .where(and(inArray(auditLogs.id, oldest), isOld))
    .returning({ id: auditLogs.id });
  return deleted.length;
}

function matches({ teamId, scopes, resourceTypes, actions }: AuditFilter): SQL | undefined {
  const { resourceType, action } = auditLogs;
  return and(
    eq(auditLogs.teamId, teamId),
    inArray(auditLogs.scope, [...scopes]),
    isNotNull(auditLogs.position),
    resourceTypes.length === 0 ? undefined : inArray(resourceType, [...resourceTypes]),
    actions.length === 0 ? undefined : inArray(action, [...actions]),
  );
}
