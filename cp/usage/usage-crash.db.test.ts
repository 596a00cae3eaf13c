// Control planes that are killed while they count what teams use: real processes of the real program, SIGKILL.

import { expect, setDefaultTimeout, test } from "bun:test";
import { sql } from "drizzle-orm";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { ControlPlaneProgram } from "../../tests/harness/simulated-agent-program.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import type { Queryable } from "../db/client.ts";
import { capsules, capsuleUsage, hosts, capsuleMetricsSnapshots as samples } from "../db/tables.ts";

setDefaultTimeout(90_000);

const VCPUS = 2;
const MEMORY_MB = 1024;
const STEP_MS = 10_000;
/** How many steps two control planes sample that are killed in turn. */
const STEPS = process.env.WRENN_SOAK ? 6 : 1;

const platform = await forThisFile(TestPlatform.start());
const { db } = platform.database;
// It tells nothing of itself, and all this may take longer than a host may be silent.
await db.update(hosts).set({ lastHeartbeatAt: new Date(Date.now() + 3_600_000) });
await platform.create({ vcpus: VCPUS, memory_mb: MEMORY_MB });

const sampledAtMs = async () => {
  const rows = await db.select().from(samples).orderBy(samples.sampledAt);
  return rows.map(({ sampledAt }) => sampledAt.getTime());
};

/** Since when its use is counted: as if nobody had done so for a while. */
async function beginCounting(q: Queryable = db): Promise<Date> {
  await q.delete(capsuleUsage);
  const [row] = await db
    .update(capsules)
    .set({ countedAt: sql`clock_timestamp() - interval '1000 seconds'` })
    .returning({ countedAt: capsules.countedAt });
  if (row === undefined) throw new Error("there is a capsule");
  return row.countedAt;
}

/** What was counted is the time until now, once. */
async function expectCounted(since: Date): Promise<void> {
  const [capsule] = await db.select({ countedAt: capsules.countedAt }).from(capsules);
  const days = await db.select().from(capsuleUsage);
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  const sec = ((capsule?.countedAt.getTime() ?? 0) - since.getTime()) / 1000;

  expect(sec).toBeGreaterThan(999);
  expect(sum(days.map(({ vcpuSec }) => vcpuSec))).toBeCloseTo(sec * VCPUS, 1);
  expect(sum(days.map(({ memoryMbSec }) => memoryMbSec))).toBeWithin(
    (sec - 0.01) * MEMORY_MB,
    (sec + 0.01) * MEMORY_MB,
  );
}

/** Backends of control planes whose statement waits for a lock. */
async function waitingPids(): Promise<number[]> {
  const rows = await platform.database.sql`
    select pid from pg_stat_activity
    where datname = current_database() and application_name = 'wrenn-cp' and wait_event_type = 'Lock'`;
  return rows.map(({ pid }) => pid);
}

// The time is read, and the day is not written yet.
test.each([
  ["ends by itself behind it", false],
  ["is ended with it", true],
])(
  "time that a control plane counts when it is killed, and its statement %s, counts once",
  async (_, isEnded) => {
    const program = await ControlPlaneProgram.start(platform);
    const replica = platform.controlPlane.usage;
    let others: Promise<number[]> | undefined;
    let since: Date | undefined;
    await db.transaction(async (tx) => {
      await tx.execute(sql`lock table ${capsuleUsage} in exclusive mode`);
      since = await beginCounting(tx);
      const [pid = 0] = await waitFor("a count before its day", waitingPids, {
        holds: ({ length }) => length > 0,
      });

      await program.end("SIGKILL");
      others = Promise.all([replica.count(), replica.count()]);
      if (isEnded) await platform.database.sql`select pg_terminate_backend(${pid}::int)`;
    });
    await others;
    await waitFor("the end of what was killed", waitingPids, {
      holds: ({ length }) => length === 0,
    });
    await replica.count();

    await expectCounted(since ?? new Date());
  },
);

test("two control planes, one of which is always alive, leave out no step and count none twice", async () => {
  let programs = await Promise.all([1, 2].map(() => ControlPlaneProgram.start(platform)));
  await db.delete(samples);
  const since = await beginCounting();
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
  await platform.controlPlane.usage.count();
  await expectCounted(since);
});
