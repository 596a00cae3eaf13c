// SQL of what capsules used, as it is kept beside their hosts.

import { and, asc, between, desc, eq, inArray, isNotNull, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { AgentOfHost } from "../agents/agent-clients.ts";
import { AGENT_COLUMNS, hasAgent } from "../agents/host-address.ts";
import { ENDED_STATES } from "../capsule-states.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import { capsuleMetricPoints, capsules, hosts, type METRIC_TIERS } from "../db/tables.ts";
import { METRIC_POINTS_MAX, type MetricPoint, type MetricRange } from "./metric-point.ts";

export type MetricTier = (typeof METRIC_TIERS)[number];

const MINUTE_SEC = 60;
const HOUR_SEC = 60 * MINUTE_SEC;

/** How far back each range goes, and the tier it is of. */
const RANGES: Readonly<Record<MetricRange, { readonly tier: MetricTier; readonly sec: number }>> = {
  "5m": { tier: "10m", sec: 5 * MINUTE_SEC },
  "10m": { tier: "10m", sec: 10 * MINUTE_SEC },
  "1h": { tier: "2h", sec: HOUR_SEC },
  "2h": { tier: "2h", sec: 2 * HOUR_SEC },
  "6h": { tier: "24h", sec: 6 * HOUR_SEC },
  "12h": { tier: "24h", sec: 12 * HOUR_SEC },
  "24h": { tier: "24h", sec: 24 * HOUR_SEC },
};

/** How far hosts' clocks, which date the points, may be ahead of the database's, by which they are told. */
const AHEAD_SEC_MAX = MINUTE_SEC;

/** A paused capsule whose points are still to be copied. */
export interface Unsaved {
  readonly id: Id<"capsule">;
  readonly operationId: string;
  readonly agent: AgentOfHost;
}

/** Those whose host answers, the ones paused last first. */
export async function selectUnsaved(q: Queryable, limit: number): Promise<Unsaved[]> {
  return await q
    .select({
      id: capsules.id,
      operationId: capsules.operationId,
      agent: AGENT_COLUMNS,
    })
    .from(capsules)
    .innerJoin(hosts, eq(hosts.id, capsules.hostId))
    .where(
      and(
        eq(capsules.status, "paused"),
        sql`${capsules.metricsSavedFor} is distinct from ${capsules.operationId}`,
        inArray(hosts.status, ["online", "draining"]),
        hasAgent(),
      ),
    )
    .orderBy(desc(capsules.lastUpdated))
    .limit(limit);
}

/**
 * Adds points of one tier, and forgets those that no range of it tells of: of too long ago, and of a time to come,
 * which a clock left that was set back.
 */
export async function mergePoints(
  tx: Tx,
  { id, tier, points }: { id: Id<"capsule">; tier: MetricTier; points: readonly MetricPoint[] },
): Promise<void> {
  const rows = JSON.stringify(points.map((point, i) => ({ ...point, ts: instantOf(points, i) })));
  // One statement whatever the number of points, and no type of ours for what JSON holds.
  await tx.execute(sql`
    insert into ${capsuleMetricPoints} (capsule_id, tier, ts, cpu_pct, mem_bytes, disk_bytes)
    select ${id}::uuid, ${tier}, ts, "cpuPct", "memBytes", "diskBytes"
    from jsonb_to_recordset(${rows}::text::jsonb)
      as p(ts bigint, "cpuPct" float8, "memBytes" bigint, "diskBytes" bigint)
    on conflict do nothing`);
  await tx.execute(sql`
    delete from ${capsuleMetricPoints}
    where capsule_id = ${id}::uuid and tier = ${tier}
      and (ts < ${secondsAgo(RANGES[tier].sec)} or ts > ${secondsAgo(-AHEAD_SEC_MAX)})`);
}

/** The points are copied, unless the capsule has moved on: then those after it are still to come. */
export async function updateSaved(tx: Tx, { id, operationId }: Unsaved): Promise<void> {
  await tx
    .update(capsules)
    .set({ metricsSavedFor: operationId })
    .where(and(eq(capsules.id, id), eq(capsules.operationId, operationId)));
}

/** Forgets points of capsules that have ended; of how many. */
export async function deletePointsOfEnded(db: Db, limit: number): Promise<number> {
  return await db.transaction(async (tx) => {
    const ended = await tx
      .select({ id: capsules.id })
      .from(capsules)
      .where(and(inArray(capsules.status, [...ENDED_STATES]), isNotNull(capsules.metricsSavedFor)))
      .limit(limit)
      .for("update", { skipLocked: true });
    const ids = ended.map(({ id }) => id);
    if (ids.length === 0) return 0;
    await tx.delete(capsuleMetricPoints).where(inArray(capsuleMetricPoints.capsuleId, ids));
    await tx.update(capsules).set({ metricsSavedFor: null }).where(inArray(capsules.id, ids));
    return ids.length;
  });
}

/** The points of the range that were copied, oldest first. */
export async function selectPoints(
  q: Queryable,
  id: Id<"capsule">,
  range: MetricRange,
): Promise<MetricPoint[]> {
  const { tier, sec } = RANGES[range];
  const t = capsuleMetricPoints;
  const rows = await q
    .select()
    .from(t)
    .where(
      and(
        ...[eq(t.capsuleId, id), eq(t.tier, tier)],
        between(t.ts, secondsAgo(sec), secondsAgo(-AHEAD_SEC_MAX)),
      ),
    )
    .orderBy(asc(t.ts))
    .limit(METRIC_POINTS_MAX);
  return rows.map(({ ts, cpuPct, memBytes, diskBytes }) => ({
    unixSec: Math.floor(ts / 1000),
    cpuPct,
    memBytes,
    diskBytes,
  }));
}

/** Milliseconds since 1970, which keep apart the points of one second. */
function instantOf(points: readonly MetricPoint[], i: number): number {
  const sec = points[i]?.unixSec ?? 0;
  return sec * 1000 + (points[i - 1]?.unixSec === sec ? 500 : 0);
}

/** As points are dated. */
function secondsAgo(sec: number) {
  return sql<number>`(extract(epoch from now()) * 1000)::bigint - ${sec * 1000}`;
}
