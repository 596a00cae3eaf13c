// SQL of events.

import { and, asc, eq, gt, inArray, isNotNull, isNull, lt, ne, or, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable, Tx } from "../db/client.ts";
import { events } from "../db/tables.ts";
import { TRANSIENT_EVENT } from "./event-types.ts";
import type { EventRow } from "./payload.ts";
import type { Placed } from "./placed.ts";

/** Any constant: it names the lock under which rows get their positions. */
const POSITIONS_LOCK = 7_221_506;

export async function hasUnplaced(q: Queryable): Promise<boolean> {
  const rows = await q
    .select({ id: events.id })
    .from(events)
    .where(isNull(events.position))
    .limit(1);
  return rows.length > 0;
}

/**
 * Gives rows that are committed positions after all that have one; null if all have. Transactions commit in another
 * order than they began or wrote in, so that by time, or by `id`, a row could appear before one that a reader has seen.
 * Of one capsule the order is that of its changes, which each hold its row.
 */
export async function placeEvents(tx: Tx, limit: number): Promise<Placed | null> {
  // Before the statement that looks, which then sees what the holder before has placed.
  await tx.execute(sql`select pg_advisory_xact_lock(${POSITIONS_LOCK})`);
  const rows = await tx.execute<{ position: number }>(sql`
    with next as (
      select id, nextval('event_positions') as position
      from (select id from events where position is null order by id limit ${limit}) as unplaced)
    update events set position = next.position
    from next where events.id = next.id returning events.position::float8 as position`);
  if (rows.length === 0) return null;
  const positions = rows.map(({ position }) => position);
  return { from: Math.min(...positions), to: Math.max(...positions), count: rows.length };
}

export interface EventFilter {
  /** Null: of all teams. */
  readonly teamId: Id<"team"> | null;
  /** Types of resources, or ids of some; empty: all. */
  readonly resources: readonly string[];
  /** Empty: all but those that pass. */
  readonly types: readonly string[];
}

/** Rows after a position, oldest first. */
export async function selectEventsAfter(
  q: Queryable,
  { after, limit, ...filter }: EventFilter & { after: number; limit: number },
): Promise<EventRow[]> {
  const { teamId, resources, types } = filter;
  const isOfResource = or(
    inArray(sql`${events.resource}->>'type'`, [...resources]),
    inArray(sql`${events.resource}->>'id'`, [...resources]),
  );
  return await q
    .select()
    .from(events)
    .where(
      and(
        teamId === null ? undefined : eq(events.teamId, teamId),
        gt(events.position, after),
        resources.length === 0 ? undefined : isOfResource,
        types.length === 0 ? ne(events.type, TRANSIENT_EVENT) : inArray(events.type, [...types]),
      ),
    )
    .orderBy(asc(events.position))
    .limit(limit);
}

/** Where the event is; undefined when there is none of that id, maybe any more. */
export async function findEventPosition(
  q: Queryable,
  { teamId, id }: { teamId: Id<"team"> | null; id: Id<"event"> },
): Promise<number | undefined> {
  const isOfTeam = teamId === null ? undefined : eq(events.teamId, teamId);
  const [row] = await q
    .select({ position: events.position })
    .from(events)
    .where(and(eq(events.eventId, id), isOfTeam));
  return row?.position ?? undefined;
}

/** The next for the stream of Redis. */
export async function selectUnpublished(q: Queryable, limit: number): Promise<EventRow[]> {
  return await q
    .select()
    .from(events)
    .where(and(isNull(events.publishedAt), isNotNull(events.position)))
    .orderBy(asc(events.position))
    .limit(limit);
}

export async function markPublished(q: Queryable, ids: readonly number[]): Promise<void> {
  const { id, publishedAt } = events;
  await q
    .update(events)
    .set({ publishedAt: sql`now()` })
    .where(and(inArray(id, [...ids]), isNull(publishedAt)));
}

/** Deletes events older than that among the `limit` oldest; returns how many. */
export async function deleteOldEvents(
  q: Queryable,
  { days, limit }: { days: number; limit: number },
): Promise<number> {
  // Only the oldest are looked at: a search by time would read the whole table to find none.
  const oldest = q.select({ id: events.id }).from(events).orderBy(asc(events.id)).limit(limit);
  const deleted = await q
    .delete(events)
    .where(
      and(
        inArray(events.id, oldest),
        lt(events.createdAt, sql`now() - make_interval(days => ${days}::int)`),
      ),
    )
    .returning({ id: events.id });
  return deleted.length;
}
