// What capsules used, against a computation of its own: time is made to pass by moving the marks up to which use is
// counted into the past.

import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { eq, sql } from "drizzle-orm";
import { decodeId, encodeId, type Id, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  addTeam,
  TestControlPlane,
  TestPlatform,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { CAPSULE_STATES, type CapsuleState, USING_STATES } from "../capsule-states.ts";
import type { Tx } from "../db/client.ts";
import { capsules, capsuleUsage, dailyUsage, usageClock } from "../db/tables.ts";
import { createLog } from "../log.ts";
import { moveMarks } from "./queries.ts";
import { TeamUsage } from "./service.ts";

setDefaultTimeout(60_000);

const DAY_MS = 86_400_000;
/** How much longer than the time that is made to pass the test itself may take, in seconds. */
const SLACK_SEC = 30;
const HISTORIES = process.env.WRENN_SOAK ? 60 : 6;
const MOVES = 12;

const platform = await forThisFile(TestPlatform.start());
const replica = await forThisFile(TestControlPlane.start(platform.database));
const { db } = platform.database;
afterEach(async () => {
  await platform.forgetCapsules();
  await db.delete(capsuleUsage);
  await db.delete(dailyUsage);
  await db.delete(usageClock);
});

interface Used {
  readonly id: string;
  readonly vcpu_seconds: number;
  readonly memory_mb_seconds: number;
  readonly paused_memory_mb_seconds: number;
}

async function told(query = ""): Promise<{ capsules: Used[]; next_cursor?: string }> {
  const { status, body } = await platform.call("GET", `/v1/usage/capsules${query}`);
  expect(status).toBe(200);
  return body as object as { capsules: Used[]; next_cursor?: string };
}

async function insertOne(status: CapsuleState, vcpus = 2, memoryMb = 1024): Promise<Id<"capsule">> {
  const id = newId("capsule");
  await db.insert(capsules).values({
    ...{ id, status, vcpus, memoryMb, teamId: platform.team.id, hostId: platform.hostId },
    ...{ template: "t", timeoutSec: 0, diskSizeMb: 5120, defaultUser: "root" },
    ...{ operationId: crypto.randomUUID() },
    ...(status === "snapshotting" ? { snapshottedFrom: "running" as const } : {}),
  });
  return id;
}

const pass = (id: Id<"capsule">, sec: number) =>
  db
    .update(capsules)
    .set({ countedAt: sql`${capsules.countedAt} - make_interval(secs => ${sec})` })
    .where(eq(capsules.id, id));

const move = (id: Id<"capsule">, status: CapsuleState, from: "running" | "paused" = "running") =>
  db
    .update(capsules)
    .set({ status, snapshottedFrom: status === "snapshotting" ? from : null })
    .where(eq(capsules.id, id));

/** Mulberry32: the same numbers for the same seed. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}

test("of random histories the use is that of the states that there were", async () => {
  const expected = new Map<
    string,
    { running: number; paused: number; vcpus: number; mb: number }
  >();
  await Promise.all(
    Array.from({ length: HISTORIES }, async (_, seed) => {
      const random = randomOf(seed);
      const [vcpus, mb] = [1 + random(8), 128 * (1 + random(16))];
      let state: CapsuleState = "pending";
      let from: "running" | "paused" = "running";
      const id = await insertOne(state, vcpus, mb);
      const sums = { running: 0, paused: 0, vcpus, mb };
      for (let i = 0; i < MOVES; i++) {
        const sec = random(200_000);
        await pass(id, sec);
        const isAtRest = state === "paused" || (state === "snapshotting" && from === "paused");
        if (isAtRest) sums.paused += sec;
        else if (USING_STATES.some((using) => using === state)) sums.running += sec;
        // Now and then it is counted as it is, at either control plane.
        if (random(3) === 0) await [platform.controlPlane, replica][random(2)]?.usage.count();
        state = CAPSULE_STATES[random(CAPSULE_STATES.length)] ?? "running";
        from = random(2) === 0 ? "running" : "paused";
        await move(id, state, from);
      }
      expected.set(encodeId("capsule", id), sums);
    }),
  );
  // The most that the marks can be in the past.
  const from = new Date(Date.now() - 80 * DAY_MS).toISOString().slice(0, 10);
  const { capsules: used } = await told(`?from=${from}&limit=200`);

  for (const [id, { running, paused, vcpus, mb }] of expected) {
    const one = used.find((each) => each.id === id);
    expect(one?.vcpu_seconds ?? 0).toBeWithin(running * vcpus - 1, (running + SLACK_SEC) * vcpus);
    expect(one?.memory_mb_seconds ?? 0).toBeWithin(running * mb - 1, (running + SLACK_SEC) * mb);
    const resting = one?.paused_memory_mb_seconds ?? 0;
    expect(resting).toBeWithin(paused * mb - 1, (paused + SLACK_SEC) * mb);
  }
});

test("a time is split by days of UTC, and nothing of it is lost", async () => {
  const random = randomOf(7);
  for (let i = 0; i < 50; i++) {
    const since = Date.UTC(2026, 1, 1) + random(40 * DAY_MS);
    const until = since + random(4 * DAY_MS) - DAY_MS / 10;
    const rows = await db.execute<{ day: string; sec: number }>(sql`
      select day::text, sec from usage_days(
        to_timestamp(${since / 1000}::float8), to_timestamp(${until / 1000}::float8))`);
    const days = new Map<string, number>();
    for (let at = since; at < until; ) {
      const next = Math.min(until, (Math.floor(at / DAY_MS) + 1) * DAY_MS);
      days.set(new Date(at).toISOString().slice(0, 10), (next - at) / 1000);
      at = next;
    }
    expect(rows.map(({ day, sec }) => [day, Math.round(sec * 1000)])).toEqual(
      [...days].map(([day, sec]) => [day, Math.round(sec * 1000)]),
    );
  }
});

test("however many count and move at once, time counts once", async () => {
  const ids = await Promise.all(Array.from({ length: 10 }, () => insertOne("running")));
  await Promise.all(ids.map((id) => pass(id, 1000)));
  const planes = [platform.controlPlane, replica];

  await Promise.all([
    ...planes.flatMap(({ usage }) => [usage.count(), usage.count(), usage.count()]),
    ...ids.map((id) => move(id, "stopping")),
    ...planes.map(({ usage }) => usage.usage(platform.team.id, {})),
  ]);

  const { capsules: used } = await told();
  expect(used).toHaveLength(ids.length);
  for (const { vcpu_seconds: vcpuSec } of used) {
    expect(vcpuSec).toBeWithin(2000, 2000 + 2 * SLACK_SEC);
  }
});

test("a move counts what it leaves, in the statement that writes its event", async () => {
  const shown = await platform.create({ vcpus: 2, memory_mb: 512 });
  const id = decodeId("capsule", shown) as Id<"capsule">;
  await pass(id, 1000);
  const paused = await platform.call("POST", `/v1/capsules/${shown}/pause`);
  await pass(id, 5000);
  const ended = await platform.call("DELETE", `/v1/capsules/${shown}`);
  await pass(id, 70_000);
  const { capsules: used } = await told();

  expect([paused.status, ended.status]).toEqual([200, 204]);
  expect(used).toEqual([
    {
      ...{ id: shown, sent_bytes: 0, template: expect.any(String) },
      vcpu_seconds: expect.any(Number),
      memory_mb_seconds: expect.any(Number),
      paused_memory_mb_seconds: expect.any(Number),
    },
  ]);
  expect(used[0]?.vcpu_seconds).toBeWithin(2000, 2 * (1000 + SLACK_SEC));
  expect(used[0]?.memory_mb_seconds).toBeWithin(512_000, 512 * (1000 + SLACK_SEC));
  expect(used[0]?.paused_memory_mb_seconds).toBeWithin(512 * 5000, 512 * (5000 + SLACK_SEC));
});

test("what ran while there was no control plane counts, and days add up to it", async () => {
  const [running, paused] = [await insertOne("running"), await insertOne("paused", 1, 512)];
  for (const id of [running, paused]) await pass(id, 3 * 86_400);

  const { body } = await platform.call("GET", "/v1/capsules/usage");
  const before = body.points as { date: string; cpu_minutes: number; ram_mb_minutes: number }[];
  await platform.controlPlane.usage.compact();
  await Promise.all([platform.controlPlane.usage.compact(), replica.usage.compact()]);
  const after = (await platform.call("GET", "/v1/capsules/usage")).body.points as typeof before;

  const sum = (points: typeof before, name: "cpu_minutes" | "ram_mb_minutes") =>
    points.reduce((total, point) => total + point[name], 0);
  const minutes = 3 * 1440;
  expect(before).toHaveLength(4);
  expect(sum(before, "cpu_minutes")).toBeWithin(2 * minutes, 2 * minutes + 2);
  expect(sum(before, "ram_mb_minutes")).toBeWithin(1280 * minutes, 1280 * (minutes + 1));
  expect(after.slice(0, 3)).toEqual(
    before.slice(0, 3).map(({ date, cpu_minutes: cpu, ram_mb_minutes: ram }) => ({
      date,
      cpu_minutes: expect.closeTo(cpu, 4),
      ram_mb_minutes: expect.closeTo(ram, 2),
    })),
  );
  // Summed up, they hold for the days of the team when what is known of each capsule is gone.
  await db.delete(capsuleUsage).where(eq(capsuleUsage.isSummed, true));
  const left = (await platform.call("GET", "/v1/capsules/usage")).body.points as typeof before;
  expect(left.slice(0, 3)).toEqual(after.slice(0, 3));
});

test("a clock that is set counts for nothing, however many control planes see it", async () => {
  const id = await insertOne("running");
  const setMs = { value: 0 };
  const log = createLog("error", () => {});
  const monotonicMs = () => performance.now() - setMs.value;
  const usages = [1, 2].map(() => new TeamUsage({ db, log, monotonicMs }));
  for (const usage of usages) await usage.count();
  const markMs = async () => {
    const [row] = await db.select().from(capsules).where(eq(capsules.id, id));
    return row?.countedAt.getTime() ?? 0;
  };

  for (const hours of [1, -1]) {
    // To them the database's clock went so much further, or back, in no time.
    const before = await markMs();
    setMs.value += hours * 3_600_000;
    await Promise.all(usages.map((usage) => usage.count()));
    expect((await markMs()) - before).toBeWithin(
      hours * 3_600_000 - SLACK_SEC * 1000,
      hours * 3_600_000 + SLACK_SEC * 1000,
    );
  }
});

test("pages go on where the one before ended, and tell of no other team", async () => {
  const ids = await Promise.all(Array.from({ length: 5 }, () => insertOne("running")));
  await Promise.all(ids.map((id) => pass(id, 100)));
  const seen: string[] = [];
  for (let cursor: string | undefined = "", pages = 0; cursor !== undefined && pages < 9; pages++) {
    const page = await told(`?limit=2${cursor && `&cursor=${cursor}`}`);
    seen.push(...page.capsules.map((one) => one.id));
    cursor = page.next_cursor;
  }
  const stranger = await addTeam(platform.database);
  const other = await platform.call("GET", "/v1/usage/capsules", { team: stranger });

  expect(seen.toSorted()).toEqual(ids.map((id) => encodeId("capsule", id)).toSorted());
  expect(new Set(seen).size).toBe(5);
  expect(other.body.capsules).toEqual([]);
});

test.each(["limit=0", "limit=x", "cursor=cl-1", "from=2026-02-30"])(
  "%s is refused",
  async (query) => {
    const { status, body } = await platform.call("GET", `/v1/usage/capsules?${query}`);

    expect([status, body.error.code]).toEqual([400, "invalid_request"]);
  },
);

test("what is past its time is forgotten", async () => {
  const teamId = platform.team.id;
  const day = (ago: number) => new Date(Date.now() - ago * DAY_MS).toISOString().slice(0, 10);
  await db.insert(capsuleUsage).values(
    [50, 98, 101].map((ago) => ({
      ...{ capsuleId: newId("capsule"), day: day(ago), teamId, vcpuSec: 60, isSummed: true },
    })),
  );
  await db.insert(dailyUsage).values([200, 1200].map((ago) => ({ teamId, day: day(ago) })));

  await platform.controlPlane.usage.compact();

  const used = await db.select().from(capsuleUsage);
  const days = await db.select().from(dailyUsage);
  expect(used.map((row) => row.day).toSorted()).toEqual([day(98), day(50)]);
  expect(days.map((row) => row.day)).toEqual([day(200)]);
});

// One who stops a team's capsules takes them in the order of their ids; rows lie in the order of their making.
test("marks are moved while somebody else takes several capsules, and neither gives up", async () => {
  const ids = await Promise.all([insertOne("running"), insertOne("running"), insertOne("paused")]);
  const [first, ...others] = ids.toSorted();
  for (const id of [...others.toReversed(), first]) if (id !== undefined) await move(id, "running");
  const taken = Promise.withResolvers<void>();
  const waited = Promise.withResolvers<void>();
  const take = (q: typeof db | Tx, id: Id<"capsule"> | undefined) =>
    q.execute(sql`select 1 from capsules where id = ${id}::uuid for update`);
  const other = db.transaction(async (tx) => {
    await take(tx, first);
    taken.resolve();
    await waited.promise;
    for (const id of others) await take(tx, id);
  });
  await taken.promise;
  const moving = db.transaction(async (tx) => moveMarks(tx, { stepMs: 3_600_000, withinMs: 0 }));
  await waitFor("the marks to wait", async () => {
    const [row] = await db.execute(sql`select 1 from pg_locks where not granted limit 1`);
    return row !== undefined;
  });
  waited.resolve();

  expect(await Promise.allSettled([other, moving])).toMatchObject([
    { status: "fulfilled" },
    { status: "fulfilled" },
  ]);
});
