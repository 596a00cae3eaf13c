// SQL of what teams may have, and of what they have of it.

import { and, eq, inArray, isNull, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import { HOLDING_STATES, PAUSED_STATES } from "../capsule-states.ts";
import type { Queryable, Tx } from "../db/client.ts";
import { capsules, teams, templateOperations, templates } from "../db/tables.ts";
import { PAUSED_MEMORY_SHARE } from "../scheduler/placement.ts";
import type { CapsuleUse, OwnLimits, SnapshotUse } from "./limits-and-use.ts";

/** The living team's own limits; undefined when it is unknown or deleted. */
export async function selectOwnLimits(
  q: Queryable,
  teamId: Id<"team">,
): Promise<OwnLimits | undefined> {
  const isLiving = and(eq(teams.id, teamId), isNull(teams.deletedAt));
  return (await q.select({ limits: teams.limits }).from(teams).where(isLiving))[0]?.limits;
}

/** The same, and until the transaction ends nobody else has them this way. */
export async function lockOwnLimits(tx: Tx, teamId: Id<"team">): Promise<OwnLimits | undefined> {
  const isLiving = and(eq(teams.id, teamId), isNull(teams.deletedAt));
  const locked = tx.select({ limits: teams.limits }).from(teams).where(isLiving);
  return (await locked.for("no key update"))[0]?.limits;
}

export async function updateOwnLimits(
  q: Queryable,
  teamId: Id<"team">,
  limits: OwnLimits,
): Promise<void> {
  await q.update(teams).set({ limits }).where(eq(teams.id, teamId));
}

/** A statement of its own: it sees what whoever held the team before has committed. */
export async function selectCapsuleUse(q: Queryable, teamId: Id<"team">): Promise<CapsuleUse> {
  const wasPaused = sql`${capsules.snapshottedFrom} is not distinct from 'paused'`;
  const isHolding = sql`(${inArray(capsules.status, [...HOLDING_STATES])} and not ${wasPaused})`;
  const isAtRest = sql`(${inArray(capsules.status, [...PAUSED_STATES])} or ${wasPaused})`;
  const [used] = await q
    .select({
      capsules: sql<number>`(count(*) filter (where ${isHolding}))::int`,
      vcpus: sql<number>`coalesce(sum(${capsules.vcpus}) filter (where ${isHolding}), 0)::float8`,
      memoryMb: sql<number>`(coalesce(sum(${capsules.memoryMb}) filter (where ${isHolding}), 0)
        + coalesce(sum(ceil(${capsules.memoryMb} * ${PAUSED_MEMORY_SHARE}::float8))
            filter (where ${isAtRest}), 0))::float8`,
      diskMb: sql<number>`coalesce(sum(${capsules.diskSizeMb}), 0)::float8`,
    })
    .from(capsules)
    // Literally that of an index.
    .where(and(eq(capsules.teamId, teamId), sql`status not in ('stopped', 'error')`));
  if (used === undefined) throw new Error("unreachable: an aggregate has a row");
  return used;
}

/** One that is to replace another is not one more. */
export async function selectSnapshotUse(q: Queryable, teamId: Id<"team">): Promise<SnapshotUse> {
  const [used] = await q.execute<{ snapshots: number; bytes: number }>(sql`
    select count(*)::int as snapshots, coalesce(sum(size_bytes), 0)::float8 as bytes
    from (
      select name, size_bytes from ${templates}
      where team_id = ${teamId}::uuid and type = 'snapshot'
      union all
      select name, 0 from ${templateOperations} making
      where team_id = ${teamId}::uuid and kind = 'create' and not exists (
        select from ${templates} made where made.team_id = making.team_id and made.name = making.name)
    ) own`);
  if (used === undefined) throw new Error("unreachable: an aggregate has a row");
  return { snapshots: used.snapshots, snapshotMb: used.bytes / 2 ** 20 };
}
