// SQL of events.

import { and, asc, inArray, lt, sql } from "drizzle-orm";
import type { Queryable } from "../db/client.ts";
import { events } from "../db/tables.ts";

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
