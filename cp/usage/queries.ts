// SQL of what teams use.
//
// What teams hold is sampled on a grid of ten seconds, by whichever control plane comes first. What capsules used is
// no matter of samples: whenever one changes its state, a trigger (`count_capsule_usage`) adds the time since
// `counted_at`, in the state that it leaves, to the days that it lies in. So it is exact whatever control planes
// there are, and what ran while there was none counts. Those that stay as they are, are counted now and then.

import { and, asc, eq, gt, gte, inArray, lte, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import { PAUSED_STATES, USING_STATES } from "../capsule-states.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import {
  capsuleMetricsSnapshots,
  capsules,
  capsuleUsage,
  dailyUsage,
  usageClock,
} from "../db/tables.ts";
import { PAUSED_MEMORY_SHARE } from "../scheduler/placement.ts";
import type {
  DayOfUsage,
  Holding,
  HoldingPart,
  StatsRange,
  TeamDates,
  UsedByCapsule,
} from "./usage.ts";

const SAMPLE_SEC = 10;
/** How long samples are kept as they are; then as the most of each hour. */
const FINE_HOURS = 25;
/** How long those are kept: the longest range, and a day. */
const COARSE_DAYS = 31;
const PEAK_DAYS = 30;
/** How long it is kept what each capsule used on a day: the longest range, and a week. */
const CAPSULE_DAYS = 99;
/** How long days of teams are kept. */
const TEAM_DAYS = 1100;
/** The one row of its table. */
const CLOCK = "database";

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

/** Of rows of `capsule_usage`; what rests counts with a share of its memory. */
const RAM_MB_MINUTES = sql`
  (sum(memory_mb_sec) + sum(paused_memory_mb_sec) * ${sql.raw(String(PAUSED_MEMORY_SHARE))}) / 60`;

/** The current step of the grid. */
const STEP = sql`date_bin('10 seconds', now(), 'epoch')`;

/** Takes the samples of this step unless they are taken; of how many teams. */
export async function insertSamples(q: Queryable): Promise<number> {
  const rows = await q.execute(sql`
    insert into ${capsuleMetricsSnapshots}
      (team_id, sampled_at, running_count, vcpus_reserved, memory_mb_reserved)
    select team_id, ${STEP}, ${HELD.runningCount}, ${HELD.vcpus}, ${HELD.memoryMb}
    from ${capsules}
    where ${IS_LIVE} and not exists (
      select from ${capsuleMetricsSnapshots} where sampled_at = ${STEP})
    group by team_id
    order by team_id
    on conflict do nothing
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

/**
 * Counts what capsules used up to now that were not counted for so long: all of them or a team's, at most `limit`.
 * What somebody else is at is counted by that. Returns how many it counted.
 */
export async function countUse(
  q: Queryable,
  options: { teamId?: Id<"team">; runningAgeSec: number; pausedAgeSec: number; limit: number },
): Promise<number> {
  const { teamId, runningAgeSec, pausedAgeSec, limit } = options;
  const ageSec = sql`case when ${isUsing} then ${runningAgeSec}::float8 else ${pausedAgeSec}::float8 end`;
  const due = q
    .select({ id: capsules.id })
    .from(capsules)
    .where(
      and(
        IS_LIVE,
        teamId && eq(capsules.teamId, teamId),
        sql`${capsules.countedAt} < clock_timestamp() - make_interval(secs => ${ageSec})`,
      ),
    )
    .orderBy(capsules.id)
    .limit(limit)
    .for("no key update", { skipLocked: true });
  const counted = await q
    .update(capsules)
    .set({ countedAt: sql`'infinity'` })
    .where(inArray(capsules.id, due))
    .returning({ id: capsules.id });
  return counted.length;
}

/** How far the clock was set in all, as found out so far; nobody else corrects that until the transaction ends. */
export async function lockStepped(tx: Tx): Promise<number> {
  await tx.insert(usageClock).values({ name: CLOCK }).onConflictDoNothing();
  const [clock] = await tx
    .select({ steppedMs: usageClock.steppedMs })
    .from(usageClock)
    .where(eq(usageClock.name, CLOCK))
    .for("update");
  if (clock === undefined) throw new Error("unreachable: the row was inserted");
  return clock.steppedMs;
}

/** The database's time as it is read, not that of the transaction's beginning, in milliseconds. */
export async function readClockMs(q: Queryable): Promise<number> {
  const [row] = await q.execute<{ ms: number }>(
    sql`select extract(epoch from clock_timestamp())::float8 * 1000 as ms`,
  );
  if (row === undefined) throw new Error("unreachable: select without a row");
  return row.ms;
}

/**
 * Moves the marks up to which use is counted along with the clock, which was set so far within the last `withinMs`: so
 * that nothing is counted that did not pass, and nothing left out. What was counted since then stands.
 */
export async function moveMarks(
  tx: Tx,
  { stepMs, withinMs }: { stepMs: number; withinMs: number },
): Promise<void> {
  const step = sql`make_interval(secs => ${stepMs / 1000}::float8)`;
  const since = sql`clock_timestamp() - make_interval(secs => ${withinMs / 1000}::float8)`;
  // In the order in which all who take several take them.
  const moved = tx.$with("moved").as(
    tx
      .select({ id: capsules.id })
      .from(capsules)
      .where(and(IS_LIVE, sql`${capsules.countedAt} not between ${since} and clock_timestamp()`))
      .orderBy(capsules.id)
      .for("no key update"),
  );
  await tx
    .with(moved)
    .update(capsules)
    .set({ countedAt: sql`${capsules.countedAt} + ${step}` })
    .where(inArray(capsules.id, tx.select({ id: moved.id }).from(moved)));
  await tx
    .update(usageClock)
    .set({ steppedMs: sql`${usageClock.steppedMs} + ${stepMs}::float8` })
    .where(eq(usageClock.name, CLOCK));
}

/** The days of both dates and between on which the team used something. */
export async function selectDays(
  q: Queryable,
  { teamId, from, to }: TeamDates,
): Promise<DayOfUsage[]> {
  // Days that are not summed up yet, or not with all that was counted, are summed here.
  const rows = await q.execute<{ date: string; cpu: number; ram: number }>(sql`
    with counted as (
      select day, sum(vcpu_sec) / 60 as cpu, ${RAM_MB_MINUTES} as ram
      from ${capsuleUsage}
      where team_id = ${teamId}::uuid and day in (
        select day from ${capsuleUsage}
        where team_id = ${teamId}::uuid and not is_summed and day between ${from}::date and ${to}::date)
      group by day
    ), summed as (
      select day, cpu_minutes::float8 as cpu, ram_mb_minutes::float8 as ram
      from ${dailyUsage}
      where team_id = ${teamId}::uuid and day between ${from}::date and ${to}::date
    )
    select day::text as date, greatest(counted.cpu, summed.cpu) as cpu,
      greatest(counted.ram, summed.ram) as ram
    from counted full join summed using (day)
    where greatest(counted.cpu, summed.cpu) > 0 or greatest(counted.ram, summed.ram) > 0
    order by day`);
  return rows.map(({ date, cpu, ram }) => ({ date, cpuMinutes: cpu, ramMbMinutes: ram }));
}

/** What each capsule of the team used on those days, by id; of those behind `after`. */
export async function selectCapsuleUsage(
  q: Queryable,
  { teamId, from, to, after, limit }: TeamDates & { after: Id<"capsule"> | null; limit: number },
): Promise<UsedByCapsule[]> {
  const u = capsuleUsage;
  return await q
    .select({
      id: u.capsuleId,
      template: sql<string>`coalesce(min(${capsules.template}), '')`,
      vcpuSec: sql<number>`sum(${u.vcpuSec})`,
      memoryMbSec: sql<number>`sum(${u.memoryMbSec})`,
      pausedMemoryMbSec: sql<number>`sum(${u.pausedMemoryMbSec})`,
      sentBytes: sql<number>`sum(${u.sentBytes})::float8`,
      diskUsedMb: sql<number | null>`min(${capsules.diskUsedMb})`,
    })
    .from(u)
    .leftJoin(capsules, eq(capsules.id, u.capsuleId))
    .where(
      and(
        eq(u.teamId, teamId),
        gte(u.day, from),
        lte(u.day, to),
        after === null ? undefined : gt(u.capsuleId, after),
      ),
    )
    .groupBy(u.capsuleId)
    .orderBy(asc(u.capsuleId))
    .limit(limit);
}

/** Sums up the teams' past days of which something is not summed up yet, at most `limit`; how many. */
export async function sumDays(db: Db, limit: number): Promise<number> {
  const due = await db
    .selectDistinct({ teamId: capsuleUsage.teamId, day: capsuleUsage.day })
    .from(capsuleUsage)
    .where(and(sql`not is_summed`, sql`${capsuleUsage.day} < (now() at time zone 'UTC')::date`))
    .limit(limit);
  for (const { teamId, day } of due) {
    const isOfDay = and(eq(capsuleUsage.teamId, teamId), eq(capsuleUsage.day, day));
    await db.transaction(async (tx) => {
      const unsummed = and(isOfDay, sql`not is_summed`);
      await tx.update(capsuleUsage).set({ isSummed: true }).where(unsummed);
      // A statement of its own: it sees all that was counted before the rows were marked.
      await tx.execute(sql`
        insert into ${dailyUsage} (team_id, day, cpu_minutes, ram_mb_minutes)
        select team_id, day, sum(vcpu_sec) / 60, ${RAM_MB_MINUTES}
        from ${capsuleUsage} where ${isOfDay} group by team_id, day
        on conflict (team_id, day) do update set
          cpu_minutes = greatest(${dailyUsage.cpuMinutes}, excluded.cpu_minutes),
          ram_mb_minutes = greatest(${dailyUsage.ramMbMinutes}, excluded.ram_mb_minutes)`);
    });
  }
  return due.length;
}

/** Forgets what capsules used on days that are summed up and past their time; how many rows went. */
export async function deleteOldUsage(q: Queryable): Promise<number> {
  const before = (days: number) => sql`(now() at time zone 'UTC')::date - ${days}::int`;
  const isOld = and(sql`is_summed`, sql`${capsuleUsage.day} < ${before(CAPSULE_DAYS)}`);
  const used = await q.delete(capsuleUsage).where(isOld).returning({ day: capsuleUsage.day });
  const daysGone = await q
    .delete(dailyUsage)
    .where(sql`${dailyUsage.day} < ${before(TEAM_DAYS)}`)
    .returning({ day: dailyUsage.day });
  return used.length + daysGone.length;
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
