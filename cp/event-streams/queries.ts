// SQL of events as they are read to be told.

import { asc, eq, gt, inArray, or, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { CapsuleRow } from "../capsules/capsule.ts";
import type { Queryable } from "../db/client.ts";
import { capsules, events } from "../db/tables.ts";
import type { EventRow } from "./event.ts";

/** The highest number of an event so far, 0 if there is none. */
export async function selectNewestId(q: Queryable): Promise<number> {
  const [row] = await q.select({ id: sql<number>`coalesce(max(id), 0)::float8` }).from(events);
  return row?.id ?? 0;
}

/** Events after that number, and those of the given numbers, in order. */
export async function selectEvents(
  q: Queryable,
  { after, late, limit }: { after: number; late: readonly number[]; limit: number },
): Promise<EventRow[]> {
  const isLate = sql`${events.id} = any(${`{${late.join(",")}}`}::bigint[])`;
  return await q
    .select()
    .from(events)
    .where(late.length === 0 ? gt(events.id, after) : or(gt(events.id, after), isLate))
    .orderBy(asc(events.id))
    .limit(limit);
}

/** The capsules of these ids, whatever team's. */
export async function selectCapsules(
  q: Queryable,
  ids: readonly Id<"capsule">[],
): Promise<CapsuleRow[]> {
  const [id] = ids;
  if (id === undefined) return [];
  const which = ids.length === 1 ? eq(capsules.id, id) : inArray(capsules.id, [...ids]);
  return await q.select().from(capsules).where(which);
}
