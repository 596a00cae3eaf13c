// Control planes that are killed while they count what teams use: real processes of the real program, SIGKILL.

import { expect, setDefaultTimeout, test } from "bun:test";
import { eq, sql } from "drizzle-orm";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { ControlPlaneProgram } from "../../tests/harness/simulated-agent-program.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { dailyUsage, capsuleMetricsSnapshots as samples } from "../db/tables.ts";

setDefaultTimeout(90_000);

const VCPUS = 2;
const MEMORY_MB = 1024;
const STEP_MS = 10_000;
/** How many steps two control planes count that are killed in turn. */
const STEPS = process.env.WRENN_SOAK ? 6 : 1;

const platform = await forThisFile(TestPlatform.start());
const { db } = platform.database;
await platform.create({ vcpus: VCPUS, memory_mb: MEMORY_MB });

const sampledAtMs = async () => {
  const rows = await db.select().from(samples).orderBy(samples.sampledAt);
  return rows.map(({ sampledAt }) => sampledAt.getTime());
};

/** Each sample is in its day, once: ten seconds of what ran. */
async function expectDaysOfSamples(): Promise<void> {
  const count = (await sampledAtMs()).length;
  const days = await db.select().from(dailyUsage).where(eq(dailyUsage.teamId, platform.team.id));
  const sum = (values: string[]) => values.reduce((total, value) => total + Number(value), 0);

  expect(count).toBeGreaterThan(0);
  expect(sum(days.map(({ cpuMinutes }) => cpuMinutes))).toBeCloseTo((count * VCPUS) / 6, 4);
  expect(sum(days.map(({ ramMbMinutes }) => ramMbMinutes))).toBeCloseTo((count * MEMORY_MB) / 6, 2);
}

/** Backends of control planes whose statement waits for a lock. */
async function waitingPids(): Promise<number[]> {
  const rows = await platform.database.sql`
    select pid from pg_stat_activity
    where datname = current_database() and application_name = 'wrenn-cp' and wait_event_type = 'Lock'`;
  return rows.map(({ pid }) => pid);
}

// It has counted, and the day is not written yet.
test.each([
  ["ends by itself behind it", false],
  ["is ended with it", true],
])(
  "a step whose control plane is killed between count and day, where the statement %s, counts once",
  async (_, isEnded) => {
    const program = await ControlPlaneProgram.start(platform);
    const replica = platform.controlPlane.usage;
    let others: Promise<number[]> | undefined;
    await db.transaction(async (tx) => {
      await tx.execute(sql`lock table ${dailyUsage} in exclusive mode`);
      await platform.database.sql`delete from capsule_metrics_snapshots`;
      await tx.execute(sql`delete from ${dailyUsage}`);
      const [pid = 0] = await waitFor("a count before its day", waitingPids, {
        holds: ({ length }) => length > 0,
      });

      await program.end("SIGKILL");
      others = Promise.all([replica.sample(), replica.sample()]);
      await waitFor("the others behind it", waitingPids, { holds: ({ length }) => length > 1 });
      if (isEnded) await platform.database.sql`select pg_terminate_backend(${pid}::int)`;
    });
    const counts = await others;
    await waitFor("the end of what was killed", waitingPids, {
      holds: ({ length }) => length === 0,
    });

    await expectDaysOfSamples();
    // The step may have ended in between.
    if (isEnded) expect(counts?.reduce((sum, n) => sum + n, 0)).toBeOneOf([1, 2]);
    expect((await sampledAtMs()).length).toBeOneOf([1, 2]);
  },
);

test("two control planes, one of which is always alive, leave out no step and count none twice", async () => {
  let programs = await Promise.all([1, 2].map(() => ControlPlaneProgram.start(platform)));
  await db.delete(samples);
  await db.delete(dailyUsage);
  const first = await waitFor("a step", sampledAtMs, { holds: ({ length }) => length > 0 });
  const last = (first[0] ?? 0) + STEPS * STEP_MS;

  const look = async () => {
    const [oldest, ...others] = programs;
    await oldest?.end("SIGKILL");
    programs = [...others, await ControlPlaneProgram.start(platform)];
    return await sampledAtMs();
  };
  const holds = (seen: number[]) => (seen.at(-1) ?? 0) >= last;
  const seen = await waitFor("the last step", look, { holds, timeoutMs: 80_000 });
  await Promise.all(programs.map((program) => program.end("SIGKILL")));

  expect(seen.slice(1).map((at, i) => at - (seen[i] ?? 0))).toEqual(
    seen.slice(1).map(() => STEP_MS),
  );
  await expectDaysOfSamples();
});
