// SQL of what teams use.
//
// Samples are taken on a grid of ten seconds by whichever control plane comes first, and what a sample adds to
// its day is added by the statement that takes it: nothing counts twice, whatever control planes there are. Both
// are written in the order of teams, so that two of them wait for one another and never in a circle.

import { and, asc, eq, gte, inArray, lte, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import { PAUSED_STATES, USING_STATES } from "../capsule-states.ts";
import type { Db, Queryable } from "../db/client.ts";
import { capsuleMetricsSnapshots, capsules, dailyUsage } from "../db/tables.ts";
import { PAUSED_MEMORY_SHARE } from "../scheduler/placement.ts";
import type { DayOfUsage, Holding, HoldingPart, StatsRange } from "./usage.ts";

const SAMPLE_SEC = 10;
/** How long samples are kept as they are; then as the most of each hour. */
const FINE_HOURS = 25;
/** How long those are kept: the longest range, and a day. */
const COARSE_DAYS = 31;
const PEAK_DAYS = 30;

const HOUR_SEC = 3600;
/** How far back each range goes, and how long its parts are: of whole samples, where they are not shorter. */
const RANGES: Readonly<Record<StatsRange, { readonly sec: number; readonly partSec: number }>> = {
  "5m": { sec: 300, partSec: 3 },
  "1h": { sec: HOUR_SEC, partSec: 30 },
  "6h": { sec: 6 * HOUR_SEC, partSec: 180 },
  "24h": { sec: 24 * HOUR_SEC, partSec: 720 },
  "30d": { sec: 30 * 24 * HOUR_SEC, partSec: 21_600 },
};

const wasPaused = sql`${capsules.snapshottedFrom} is not distinct from 'paused'`;
const isUsing = sql`(${inArray(capsules.status, [...USING_STATES])} and not ${wasPaused})`;
const isAtRest = sql`(${inArray(capsules.status, [...PAUSED_STATES])} or ${wasPaused})`;
const HELD = {
  runningCount: sql<number>`(count(*) filter (where ${isUsing}))::int`,
  vcpus: sql<number>`coalesce(sum(${capsules.vcpus}) filter (where ${isUsing}), 0)::int`,
  memoryMb: sql<number>`(coalesce(sum(${capsules.memoryMb}) filter (where ${isUsing}), 0)
    + coalesce(sum(ceil(${capsules.memoryMb} * ${PAUSED_MEMORY_SHARE}::float8))
        filter (where ${isAtRest}), 0))::int`,
};
/** That of an index, literally. */
const IS_LIVE = sql`status not in ('stopped', 'error')`;

/** The current step of the grid. */
const STEP = sql`date_bin('10 seconds', now(), 'epoch')`;

/** Takes the samples of this step unless they are taken, and adds them to their day; of how many teams. */
export async function insertSamples(q: Queryable): Promise<number> {
  const rows = await q.execute(sql`
    with taken as (
      insert into ${capsuleMetricsSnapshots}
        (team_id, sampled_at, running_count, vcpus_reserved, memory_mb_reserved)
      select team_id, ${STEP}, ${HELD.runningCount}, ${HELD.vcpus}, ${HELD.memoryMb}
      from ${capsules}
      where ${IS_LIVE} and not exists (
        select from ${capsuleMetricsSnapshots} where sampled_at = ${STEP})
      group by team_id
      order by team_id
      on conflict do nothing
      returning *
    )
    insert into ${dailyUsage} (team_id, day, cpu_minutes, ram_mb_minutes)
    select team_id, (sampled_at at time zone 'UTC')::date,
      vcpus_reserved * ${SAMPLE_SEC} / 60.0, memory_mb_reserved * ${SAMPLE_SEC} / 60.0
    from taken
    order by team_id
    on conflict (team_id, day) do update set
      cpu_minutes = ${dailyUsage.cpuMinutes} + excluded.cpu_minutes,
      ram_mb_minutes = ${dailyUsage.ramMbMinutes} + excluded.ram_mb_minutes
    returning 1`);
  return rows.length;
}

/** What the team holds now. */
export async function selectHolding(q: Queryable, teamId: Id<"team">): Promise<Holding> {
  const [held] = await q
    .select(HELD)
    .from(capsules)
    .where(and(eq(capsules.teamId, teamId), IS_LIVE));
  if (held === undefined) throw new Error("unreachable: an aggregate has a row");
  return held;
}

/**
 * The most of each that samples tell of. Not those of a time to come, which a clock left that was set back; what
 * runs until then counts for no step that is taken already.
 */
export async function selectPeaks(q: Queryable, teamId: Id<"team">): Promise<Holding> {
  const t = capsuleMetricsSnapshots;
  const [peaks] = await q
    .select({
      runningCount: sql<number>`coalesce(max(${t.runningCount}), 0)`,
      vcpus: sql<number>`coalesce(max(${t.vcpusReserved}), 0)`,
      memoryMb: sql<number>`coalesce(max(${t.memoryMbReserved}), 0)`,
    })
    .from(t)
    .where(
      and(
        eq(t.teamId, teamId),
        gte(t.sampledAt, sql`now() - make_interval(days => ${PEAK_DAYS})`),
        lte(t.sampledAt, sql`now()`),
      ),
    );
  if (peaks === undefined) throw new Error("unreachable: an aggregate has a row");
  return peaks;
}

/**
 * The parts of the range, up to the last step that is over. A sample counts for its whole step, in each part that
 * this touches.
 */
export async function selectParts(
  q: Queryable,
  teamId: Id<"team">,
  range: StatsRange,
): Promise<HoldingPart[]> {
  const { sec, partSec } = RANGES[range];
  const rows = await q.execute<{
    begins: number;
    running: number;
    vcpus: number;
    memory: number;
  }>(sql`
    with last as (
      select (extract(epoch from ${STEP})::bigint - 1) / ${partSec}::bigint as part
    ), touched as (
      select part, running_count, vcpus_reserved, memory_mb_reserved
      from ${capsuleMetricsSnapshots}, generate_series(
        extract(epoch from sampled_at)::bigint / ${partSec}::bigint,
        (extract(epoch from sampled_at)::bigint + ${SAMPLE_SEC - 1}) / ${partSec}::bigint) as part
      where team_id = ${teamId}::uuid
        and sampled_at > now() - make_interval(secs => ${sec + partSec + SAMPLE_SEC})
    )
    select (parts.part * ${partSec}::bigint)::float8 as begins,
      coalesce(max(running_count), 0) as running,
      coalesce(max(vcpus_reserved), 0) as vcpus,
      coalesce(max(memory_mb_reserved), 0) as memory
    from last, generate_series(last.part - ${sec / partSec - 1}, last.part) as parts(part)
      left join touched on touched.part = parts.part
    group by parts.part
    order by parts.part`);
  return rows.map(({ begins, running, vcpus, memory }) => ({
    beginsAt: new Date(begins * 1000),
    runningCount: running,
    vcpus,
    memoryMb: memory,
  }));
}

/** The days of both dates and between on which the team used something. */
export async function selectDays(
  q: Queryable,
  { teamId, from, to }: { teamId: Id<"team">; from: string; to: string },
): Promise<DayOfUsage[]> {
  const t = dailyUsage;
  return await q
    .select({
      date: t.day,
      cpuMinutes: sql<number>`${t.cpuMinutes}::float8`,
      ramMbMinutes: sql<number>`${t.ramMbMinutes}::float8`,
    })
    .from(t)
    .where(and(eq(t.teamId, teamId), gte(t.day, from), lte(t.day, to)))
    .orderBy(asc(t.day));
}

/**
 * Keeps of samples past their time the most of each hour, and forgets those of hours past theirs. Returns how many
 * rows went.
 */
export async function compactSamples(db: Db): Promise<number> {
  const hour = sql`date_trunc('hour', sampled_at, 'UTC')`;
  // What a control plane left for days is little, and is found, too.
  const isFine = sql`sampled_at < date_trunc('hour', now() - make_interval(hours => ${FINE_HOURS}), 'UTC')
    and sampled_at <> ${hour}`;
  return await db.transaction(async (tx) => {
    await tx.execute(sql`
      insert into ${capsuleMetricsSnapshots} as kept
        (team_id, sampled_at, running_count, vcpus_reserved, memory_mb_reserved)
      select team_id, ${hour}, max(running_count), max(vcpus_reserved), max(memory_mb_reserved)
      from ${capsuleMetricsSnapshots} where ${isFine} group by 1, 2
      on conflict (team_id, sampled_at) do update set
        running_count = greatest(kept.running_count, excluded.running_count),
        vcpus_reserved = greatest(kept.vcpus_reserved, excluded.vcpus_reserved),
        memory_mb_reserved = greatest(kept.memory_mb_reserved, excluded.memory_mb_reserved)`);
    const gone = await tx.execute(sql`
      delete from ${capsuleMetricsSnapshots}
      where (${isFine}) or sampled_at < now() - make_interval(days => ${COARSE_DAYS})
      returning 1`);
    return gone.length;
  });
}
