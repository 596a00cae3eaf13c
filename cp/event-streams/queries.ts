// SQL of events as they are read to be told.

import { and, asc, eq, gt, inArray, isNotNull, lte, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { CapsuleRow } from "../capsules/capsule.ts";
import type { Queryable } from "../db/client.ts";
import { capsules, events } from "../db/tables.ts";
import type { EventRow } from "./event.ts";

/** The position of the latest event, 0 if there is none. */
export async function selectNewestPosition(q: Queryable): Promise<number> {
  const [row] = await q
    .select({ position: sql<number>`coalesce(max(position), 0)::float8` })
    .from(events)
    .where(isNotNull(events.position));
  return row?.position ?? 0;
}

/** Where the event is; undefined when there is none of that id, or not of that team, maybe any more. */
export async function findPosition(
  q: Queryable,
  { teamId, id }: { teamId: Id<"team"> | null; id: Id<"event"> },
): Promise<number | undefined> {
  const [row] = await q
    .select({ position: events.position })
    .from(events)
    .where(and(eq(events.eventId, id), isOfTeam(teamId)));
  return row?.position ?? undefined;
}

/** Events after that position, up to another one if one is given, in order; of one team, or of all. */
export async function selectEvents(
  q: Queryable,
  which: { after: number; upTo?: number; teamId: Id<"team"> | null; limit: number },
): Promise<EventRow[]> {
  const { after, upTo, teamId, limit } = which;
  return await q
    .select()
    .from(events)
    .where(
      and(
        gt(events.position, after),
        upTo === undefined ? undefined : lte(events.position, upTo),
        isOfTeam(teamId),
      ),
    )
    .orderBy(asc(events.position))
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

function isOfTeam(teamId: Id<"team"> | null) {
  return teamId === null ? undefined : eq(events.teamId, teamId);
}
