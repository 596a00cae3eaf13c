// What a team may have, at two control planes: what would pass a limit is refused, however much is asked for at once.

import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { eq } from "drizzle-orm";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  type Answer,
  addTeam,
  TestControlPlane,
  TestPlatform,
  toAnswer,
} from "../../tests/harness/simulated-agent-platform.ts";
import { ControlPlaneProgram } from "../../tests/harness/simulated-agent-program.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, teams, templates } from "../db/tables.ts";
import type { TeamLimits } from "../team-limits.ts";

setDefaultTimeout(60_000);

const SHAPE = { vcpus: 2, memory_mb: 512 };
const DISK_MB = 5120;
const AT_ONCE = 10;

const platform = await forThisFile(TestPlatform.start());
const other = await forThisFile(TestControlPlane.start(platform.database));
const { db } = platform.database;

const limit = (limits: Partial<TeamLimits>) =>
  db.update(teams).set({ limits }).where(eq(teams.id, platform.team.id));

afterEach(async () => {
  await limit({});
  await platform.forgetCapsules();
});

const call = async (at: TestControlPlane, method: string, path: string, body?: object) =>
  toAnswer(
    await at.handle(
      new Request(`http://localhost${path}`, {
        method,
        headers: { "x-api-key": platform.team.apiKey, "content-type": "application/json" },
        ...(body && { body: JSON.stringify(body) }),
      }),
    ),
  );

/** The same calls, each at the other control plane than the one before it. */
const spread = (calls: readonly (readonly [string, string, object?])[]) =>
  Promise.all(calls.map((one, i) => call([platform.controlPlane, other][i % 2] ?? other, ...one)));

const told = ({ status, body }: Answer) => (status < 400 ? status : body.error.code);
const counted = (answers: readonly Answer[]) => {
  const counts: Record<string, number> = {};
  for (const answer of answers) counts[told(answer)] = (counts[told(answer)] ?? 0) + 1;
  return counts;
};

const snapshots = async () =>
  await db.select().from(templates).where(eq(templates.teamId, platform.team.id));

test.each([
  ["capsules", 3, "concurrent_sandbox_limit"],
  ["vcpus", 7, "vcpu_limit"],
  ["memoryMb", 3 * 512, "memory_limit"],
  ["diskMb", 4 * DISK_MB - 1, "disk_limit"],
] as const)("of ten creates at once none passes the limit of %s", async (name, max, code) => {
  await limit({ [name]: max });

  const answers = await spread(
    Array.from({ length: AT_ONCE }, () => ["POST", "/v1/capsules", SHAPE]),
  );

  expect(counted(answers)).toEqual({ 201: 3, [code]: AT_ONCE - 3 });
  expect(await platform.states()).toEqual({ running: 3 });
});

test("a refusal tells the limit, what there is and what was asked for", async () => {
  await limit({ vcpus: 3 });
  await platform.create(SHAPE);

  const { status, body } = await platform.call("POST", "/v1/capsules", { body: SHAPE });

  expect([status, body.error]).toMatchObject([
    402,
    { code: "vcpu_limit", retryable: false, details: { limit: 3, used: 2, asked: 2 } },
  ]);
});

test("what a destroy or a pause gives back may be had again", async () => {
  await limit({ capsules: 2 });
  const [one, two] = [await platform.create(), await platform.create()];
  await platform.call("POST", `/v1/capsules/${one}/pause`);
  await platform.call("DELETE", `/v1/capsules/${two}`);

  const creates = await spread(Array.from({ length: 3 }, () => ["POST", "/v1/capsules", {}]));
  const resumed = await platform.call("POST", `/v1/capsules/${one}/resume`);

  expect(counted(creates)).toEqual({ 201: 2, concurrent_sandbox_limit: 1 });
  expect(told(resumed)).toBe("concurrent_sandbox_limit");
  expect(await platform.states()).toEqual({ running: 2, paused: 1, stopped: 1 });
});

test("of paused capsules no more are resumed at once than may run", async () => {
  const ids = [];
  for (let i = 0; i < 4; i++) ids.push(await platform.create());
  for (const id of ids) await platform.call("POST", `/v1/capsules/${id}/pause`);
  // Of each at rest a half is set aside, so one more half is a whole one.
  await limit({ memoryMb: 4 * 256 + 2 * 256 });

  const resumed = await spread(ids.map((id) => ["POST", `/v1/capsules/${id}/resume`]));

  expect(counted(resumed)).toEqual({ 200: 2, memory_limit: 2 });
  expect(await platform.states()).toEqual({ running: 2, paused: 2 });
});

test("forks count all together, and those of two requests do, too", async () => {
  await limit({ capsules: 4 });
  const id = await platform.create();

  const forked = await spread(
    Array.from({ length: 2 }, () => ["POST", `/v1/capsules/${id}/fork`, { count: 2 }]),
  );
  const more = await platform.call("POST", `/v1/capsules/${id}/fork`, { body: { count: 1 } });

  expect(counted(forked)).toEqual({ 201: 1, concurrent_sandbox_limit: 1 });
  expect([told(more), await platform.states()]).toEqual([201, { running: 4 }]);
});

test("snapshots at once make no more than may be, and one in another's place is not one more", async () => {
  await limit({ snapshots: 2 });
  const ids = [await platform.create(), await platform.create()];
  const snapshot = (name: string, i: number) =>
    ["POST", "/v1/snapshots", { sandbox_id: ids[i % 2], name }] as const;

  const made = await spread(["a", "b", "c", "d"].map(snapshot));
  const [first] = await snapshots();
  const again = await platform.call("POST", "/v1/snapshots?overwrite=true", {
    body: { sandbox_id: ids[0], name: first?.name },
  });

  expect(counted(made)).toEqual({ 201: 2, snapshot_limit: 2 });
  expect(told(again)).toBe(201);
});

test("a snapshot that turns out too large is not kept, and its capsule goes on", async () => {
  platform.agent.pauses.snapshotBytes = 5 * 2 ** 20;
  const id = await platform.create();
  await platform.call("POST", "/v1/snapshots", { body: { sandbox_id: id } });
  await limit({ snapshotMb: 9 });

  const second = await platform.call("POST", "/v1/snapshots", { body: { sandbox_id: id } });

  expect([told(second), (await snapshots()).length]).toEqual(["snapshot_storage_limit", 1]);
  await waitFor("nothing else at the host", async () => platform.agent.pauses.templates.size, {
    holds: (size) => size === 1,
  });
  expect(await platform.states()).toEqual({ running: 1 });
});

test("a team sees its limits and what it has of them", async () => {
  await limit({ capsules: 5, requestsPerMinute: 1000 });
  const ids = [await platform.create(SHAPE), await platform.create(SHAPE)];
  await platform.call("POST", `/v1/capsules/${ids[0]}/pause`);

  const { body } = await platform.call("GET", "/v1/limits");

  const limits = { capsules: 5, vcpus: 0, memory_mb: 0, disk_mb: 0, snapshots: 0, snapshot_mb: 0 };
  const paused = 256;
  expect<unknown>(body).toEqual({
    limits: { ...limits, requests_per_minute: 1000 },
    usage: {
      ...{ capsules: 1, vcpus: 2, memory_mb: 512 + paused, disk_mb: 2 * DISK_MB },
      ...{ snapshots: 0, snapshot_mb: 0 },
    },
  });
});

test("requests past a team's limit are told when to come again, at whichever control plane", async () => {
  const team = await addTeam(platform.database);
  const limits = { requestsPerMinute: 6 };
  await db.update(teams).set({ limits }).where(eq(teams.id, team.id));
  const ask = (at: TestControlPlane) =>
    at.handle(
      new Request("http://localhost/v1/capsules", { headers: { "x-api-key": team.apiKey } }),
    );
  const planes = Array.from({ length: AT_ONCE }, (_, i) => (i % 2 ? other : platform.controlPlane));

  const answers = await Promise.all(planes.map(ask));
  const late = await ask(other);
  const stranger = await platform.call("GET", "/v1/capsules");

  const statuses = answers.map(({ status }) => status).toSorted();
  expect(statuses).toEqual([...Array(6).fill(200), ...Array(AT_ONCE - 6).fill(429)]);
  expect(stranger.status).toBe(200);
  expect(Number(late.headers.get("retry-after"))).toBeWithin(1, 61);
});

test("a control plane that dies while it creates leaves what it placed counted, until that has ended", async () => {
  await limit({ capsules: 2 });
  const programs = await Promise.all([1, 2].map(() => ControlPlaneProgram.start(platform)));
  const reached = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSandbox", async () => {
    reached.resolve();
    await go.promise;
    throw new Error("the request was lost");
  });
  const lost = programs[0]?.call("POST", "/v1/capsules");
  await reached.promise;
  await programs[0]?.end("SIGKILL");
  const meanwhile = await Promise.all(
    Array.from({ length: AT_ONCE }, () => programs[1]?.call("POST", "/v1/capsules")),
  );
  go.resolve();
  await waitFor("the lost one to end", () => db.select().from(capsules), {
    holds: (rows) => rows.every(({ status }) => ["running", "error"].includes(status)),
  });
  const after = await Promise.all(
    Array.from({ length: AT_ONCE }, () => programs[1]?.call("POST", "/v1/capsules")),
  );
  await programs[1]?.end("SIGTERM");

  // The place of the lost one is free as soon as somebody has settled that it is lost.
  expect(await lost).toBeNull();
  expect(counted([...meanwhile, ...after].flatMap((one) => one ?? []))).toEqual({
    201: 2,
    concurrent_sandbox_limit: 2 * AT_ONCE - 2,
  });
  expect(await platform.states()).toEqual({ running: 2, error: 1 });
});
