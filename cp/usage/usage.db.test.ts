import { afterAll, beforeAll, expect, test } from "bun:test";
import { eq, sql } from "drizzle-orm";
import {
  addTeam,
  TestPlatform,
  type TestTeam,
} from "../../tests/harness/simulated-agent-platform.ts";
import { dailyUsage, capsuleMetricsSnapshots as samples } from "../db/tables.ts";

const HOUR_SEC = 3600;
const DAY_SEC = 24 * HOUR_SEC;

let platform: TestPlatform;
beforeAll(async () => {
  platform = await TestPlatform.start();
});
afterAll(() => platform[Symbol.asyncDispose]());

interface Series {
  readonly labels: string[];
  readonly running: number[];
  readonly vcpus: number[];
  readonly memory_mb: number[];
}

interface Told {
  readonly series: Series;
  readonly points: readonly Readonly<Record<string, unknown>>[];
  readonly [field: string]: unknown;
}

async function ask(path: string, { apiKey }: TestTeam): Promise<Told> {
  const url = `http://localhost/v1/capsules/${path}`;
  const headers = { "x-api-key": apiKey };
  const response = await platform.controlPlane.handle(new Request(url, { headers }));
  expect(response.status).toBe(200);
  return JSON.parse(await response.text());
}

/** Samples of so many running capsules at these ages, to the second behind a full hour or step. */
async function insert(
  { id }: TestTeam,
  unit: "hour" | "step",
  rows: [ageSec: number, n: number][],
) {
  const from =
    unit === "hour"
      ? sql`date_trunc('hour', now(), 'UTC')`
      : sql`date_bin('10 seconds', now(), 'epoch')`;
  for (const [ageSec, n] of rows) {
    const at = sql`${from} - make_interval(secs => ${ageSec})`;
    await platform.database.db.execute(
      sql`insert into ${samples} values (${id}::uuid, ${at}, ${n}, ${2 * n}, ${512 * n})`,
    );
  }
}

test("stats tell of what a team holds, paused capsules by half their memory", async () => {
  const { team } = platform;
  const stranger = await addTeam(platform.database);
  await platform.create({ vcpus: 2, memory_mb: 1024 });
  const paused = await platform.create({ vcpus: 4, memory_mb: 513 });
  await platform.call("POST", `/v1/capsules/${paused}/pause`);
  const ended = await platform.create({ vcpus: 8, memory_mb: 2048 });
  await platform.call("DELETE", `/v1/capsules/${ended}`);

  const { range, current, peaks } = await ask("stats", team);

  expect(range).toBe("1h");
  expect(current).toEqual({ running_count: 1, vcpus_reserved: 2, memory_mb_reserved: 1024 + 257 });
  expect(peaks).toEqual({ running_count: 1, vcpus: 2, memory_mb: 1024 + 257 });
  const none = await ask("stats?range=24h", stranger);
  expect(none.current).toEqual({ running_count: 0, vcpus_reserved: 0, memory_mb_reserved: 0 });
  expect(new Set(none.series.running)).toEqual(new Set([0]));
});

test("what several control planes sample at once is sampled once", async () => {
  const { usage } = platform.controlPlane;
  const counts = await Promise.all(Array.from({ length: 8 }, () => usage.sample()));

  const { db } = platform.database;
  const taken = await db.select().from(samples).where(eq(samples.teamId, platform.team.id));

  // The ten seconds may have ended in between.
  expect(taken.length).toBeOneOf([1, 2]);
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(taken.length);
  expect(taken.every(({ sampledAt }) => sampledAt.getTime() % 10_000 === 0)).toBe(true);
  expect(taken[0]).toMatchObject({ runningCount: 1, vcpusReserved: 2, memoryMbReserved: 1281 });
});

test.each([
  { range: "5m", parts: 100, partSec: 3 },
  { range: "1h", parts: 120, partSec: 30 },
  { range: "6h", parts: 120, partSec: 180 },
  { range: "24h", parts: 120, partSec: 720 },
])("a series of $range has no holes where there are samples", async ({ range, parts, partSec }) => {
  const team = await addTeam(platform.database);
  await platform.database.db.execute(sql`
    insert into ${samples}
    select ${team.id}::uuid, at, 5, 10, 2560 from generate_series(
      date_bin('10 seconds', now(), 'epoch') - make_interval(secs => ${parts * partSec + 800}),
      now() + interval '1 minute', interval '10 seconds') as at`);

  const { series } = await ask(`stats?range=${range}`, team);

  const times = series.labels.map((label) => Date.parse(label) / 1000);
  expect(times.length).toBe(parts);
  expect(times.every((at, i) => at % partSec === 0 && at - (times[0] ?? 0) === i * partSec)).toBe(
    true,
  );
  expect(Math.abs(Date.now() / 1000 - (times.at(-1) ?? 0))).toBeLessThan(partSec + 20);
  expect(series).toEqual({
    labels: expect.anything(),
    running: Array(parts).fill(5),
    vcpus: Array(parts).fill(10),
    memory_mb: Array(parts).fill(2560),
  });
});

test("a part tells the most of its time, and where nothing ran it is zero", async () => {
  const team = await addTeam(platform.database);
  await insert(team, "step", [
    [600, 3],
    [590, 8],
    [580, 2],
  ]);

  const { series, peaks } = await ask("stats?range=1h", team);

  const told = series.running.filter((running) => running > 0);
  expect(Math.max(...told)).toBe(8);
  expect(told.length).toBeLessThanOrEqual(2);
  expect(peaks).toEqual({ running_count: 8, vcpus: 16, memory_mb: 4096 });
});

test("samples of a time to come, which a clock left that was set back, are no peak of today's", async () => {
  const team = await addTeam(platform.database);
  await insert(team, "step", [
    [-HOUR_SEC, 90],
    [-10 * DAY_SEC, 99],
    [20, 4],
  ]);
  await platform.controlPlane.usage.compact();

  const { series, peaks } = await ask("stats", team);

  expect(peaks).toEqual({ running_count: 4, vcpus: 8, memory_mb: 2048 });
  expect(Math.max(...series.running)).toBe(4);
});

test("old samples become the most of their hour, which is told until a month has gone", async () => {
  const { db } = platform.database;
  const { usage } = platform.controlPlane;
  const team = await addTeam(platform.database);
  const hourAgo = 2 * DAY_SEC;
  await insert(team, "hour", [
    [hourAgo, 2],
    [hourAgo - 600, 9],
    [hourAgo - 610, 4],
    [3 * DAY_SEC - 20, 1],
    [32 * DAY_SEC, 30],
    [3 * HOUR_SEC - 10, 6],
  ]);

  await usage.compact();
  const again = await usage.compact();

  const kept = await db
    .select({ n: samples.runningCount, memory: samples.memoryMbReserved })
    .from(samples)
    .where(eq(samples.teamId, team.id))
    .orderBy(samples.sampledAt);
  expect(kept).toEqual([
    { n: 1, memory: 512 },
    { n: 9, memory: 9 * 512 },
    { n: 6, memory: 6 * 512 },
  ]);
  expect(again).toBe(0);
  const { series, peaks } = await ask("stats?range=30d", team);
  expect(peaks).toMatchObject({ running_count: 9 });
  expect(series.labels.length).toBe(120);
  expect(series.running.filter((running) => running > 0).sort()).toEqual([1, 6, 9]);
});

test("usage is by day of UTC, of the last 30 days unless asked", async () => {
  const team = await addTeam(platform.database);
  const today = new Date().toISOString().slice(0, 10);
  const day = (ago: number) =>
    new Date(Date.parse(today) - ago * DAY_SEC * 1000).toISOString().slice(0, 10);
  await platform.database.db.insert(dailyUsage).values(
    [0, 5, 30, 31, 60].map((ago) => ({
      ...{ teamId: team.id, day: day(ago) },
      ...{ cpuMinutes: `${ago}.25`, ramMbMinutes: `${ago * 100}.5` },
    })),
  );

  const recent = await ask("usage", team);
  const older = await ask(`usage?from=${day(60)}&to=${day(31)}`, team);

  expect([recent.from, recent.to]).toEqual([day(30), today]);
  expect(recent.points).toEqual([
    { date: day(30), cpu_minutes: 30.25, ram_mb_minutes: 3000.5 },
    { date: day(5), cpu_minutes: 5.25, ram_mb_minutes: 500.5 },
    { date: today, cpu_minutes: 0.25, ram_mb_minutes: 0.5 },
  ]);
  expect(older.points.map(({ date }) => date)).toEqual([day(60), day(31)]);
  expect((await ask("usage", await addTeam(platform.database))).points).toEqual([]);
});

test.each([
  ["stats?range=7d", "range"],
  ["usage?from=2026-02-30", "from"],
  ["usage?to=yesterday", "to"],
  ["usage?to=2026-13-01", "to"],
  ["usage?from=2026-03-02&to=2026-03-01", "from"],
  ["usage?from=2026-01-01&to=2026-04-04", "from"],
  ["usage?from=2126-01-01", "from"],
  ["usage?from=0000-01-01&to=0000-01-02", "from"],
  ["usage?to=0001-01-10", "to"],
])("%s is refused, naming the field", async (path, field) => {
  const { status, body } = await platform.call("GET", `/v1/capsules/${path}`);

  expect([status, body.error.code]).toEqual([400, "invalid_request"]);
  expect(body.error.message).toStartWith(`${field}: `);
});

test("92 days are told in one answer", async () => {
  const { from, to } = await ask("usage?from=2026-01-01&to=2026-04-03", platform.team);
  expect([from, to]).toEqual(["2026-01-01", "2026-04-03"]);
});
