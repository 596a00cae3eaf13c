import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { eq, sql } from "drizzle-orm";
import { decodeId, encodeId, type Id, newId } from "../../proto/ids.ts";
import { addHost, addTeam, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import type { CapsuleState } from "../capsule-states.ts";
import { capsules, events, hosts } from "../db/tables.ts";
import { monitorHostsLoop } from "../loops/monitor-hosts.ts";
import { reconcileHost } from "./reconcile.ts";

let platform: TestPlatform;

beforeAll(async () => {
  platform = await TestPlatform.start();
});

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
});

afterEach(async () => {
  await platform.database.db.delete(capsules);
  await platform.database.db.delete(events);
  platform.agent.capsules.clear();
  await setHost({ status: "online", lastHeartbeatAt: new Date() });
});

function pass(): Promise<Record<string, number>> {
  return monitorHostsLoop(platform.controlPlane.deps).run(new AbortController().signal);
}

async function setHost(columns: Partial<typeof hosts.$inferInsert>, id = platform.hostId) {
  await platform.database.db.update(hosts).set(columns).where(eq(hosts.id, id));
}

async function createdId(): Promise<Id<"capsule">> {
  return decodeId("capsule", await platform.create()) ?? newId("capsule");
}

async function set(id: Id<"capsule">, status: CapsuleState) {
  await platform.database.db.update(capsules).set({ status }).where(eq(capsules.id, id));
}

async function row(id: Id<"capsule">) {
  const [found] = await platform.database.db.select().from(capsules).where(eq(capsules.id, id));
  return found;
}

async function lastEvent() {
  return (await platform.database.db.select().from(events).orderBy(events.id)).at(-1);
}

test("where record and host agree nothing happens", async () => {
  const id = await createdId();
  const before = await row(id);

  expect(await pass()).toEqual({ silent: 0, lost: 0, paused: 0, restored: 0, destroyed: 0 });

  expect(await row(id)).toEqual(before);
});

test("a capsule that its host lost is stopped, and the event says that it was deduced", async () => {
  const id = await createdId();
  platform.agent.capsules.clear();

  expect(await pass()).toMatchObject({ lost: 1 });

  expect(await row(id)).toMatchObject({
    status: "stopped",
    reason: "its host no longer has the capsule",
  });
  expect(await lastEvent()).toMatchObject({
    type: "capsule.destroy",
    actor: { type: "system", id: "", name: "" },
    metadata: { from: "running", to: "stopped", reason: "orphaned", inferred: "true" },
  });
});

// Its disk, and often a memory of before, are still there: nobody else may throw them away.
test("a capsule whose VMM ended rests with the host's reason until its owner decides", async () => {
  const id = await createdId();
  const path = `/v1/capsules/${encodeId("capsule", id)}`;
  platform.agent.loseCapsule(encodeId("capsule", id), "the microVM ended: signal 9");

  expect(await pass()).toMatchObject({ lost: 0, paused: 1, destroyed: 0 });
  const rested = await row(id);
  expect(await pass()).toMatchObject({ lost: 0, paused: 0, destroyed: 0 });
  const warm = await platform.call("POST", `${path}/resume`);
  const cold = await platform.call("POST", `${path}/resume`, { body: { memory: false } });

  expect(rested).toMatchObject({ status: "paused", reason: "the microVM ended: signal 9" });
  expect([warm.status, warm.body.error.code]).toEqual([409, "invalid_state"]);
  expect(cold).toMatchObject({
    status: 200,
    body: { status: "running", metadata: { resumed_from: "disk" } },
  });
  expect(cold.body.reason).toBeUndefined();
});

// The agent's answer may have been on its way when the capsule began to run.
test("a capsule that began to run after the host was asked is not called lost", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultAfter("listSandboxes", () => hold.promise);
  const { deps } = platform.controlPlane;
  const host = { id: platform.hostId, address: platform.agent.address };
  const reconciling = reconcileHost(deps, host);
  while (platform.agent.underWay === 0) await Bun.sleep(1);

  const id = await createdId();
  hold.resolve();

  expect(await reconciling).toMatchObject({ lost: 0 });
  expect((await row(id))?.status).toBe("running");
});

test.each(["stopped", "error"] as const)(
  "a capsule that is %s on record is destroyed on its host",
  async (status) => {
    await set(await createdId(), status);

    expect(await pass()).toMatchObject({ destroyed: 1 });

    expect(platform.agent.capsules.size).toBe(0);
  },
);

test("a capsule that no record knows is destroyed, once its owner had time to notice", async () => {
  const id = encodeId("capsule", newId("capsule"));
  const client = platform.controlPlane.deps.agents.at(platform.agent.address);
  const operationId = crypto.randomUUID();
  await client.createSandbox({ sandboxId: id, operationId, vcpus: 1, memoryMb: 128 });

  expect(await pass()).toMatchObject({ destroyed: 0 });
  const unknown = platform.agent.capsules.get(id);
  if (unknown !== undefined) {
    platform.agent.capsules.set(id, { ...unknown, createdAt: Date.now() - 120_000 });
  }
  expect(await pass()).toMatchObject({ destroyed: 1 });

  expect(platform.agent.capsules.size).toBe(0);
});

test.each(["pending", "starting", "stopping"] as const)(
  "an operation under way (%s) is not the monitor's business",
  async (status) => {
    const id = await createdId();
    await set(id, status);

    await pass();

    expect((await row(id))?.status).toBe(status);
    expect(platform.agent.capsules.size).toBe(1);
  },
);

test("a host silent for 90 s is unreachable and its capsules missing, until both are back", async () => {
  const running = await createdId();
  const lost = await createdId();
  const paused = await createdId();
  await set(paused, "paused");
  await setHost({ lastHeartbeatAt: new Date(Date.now() - 91_000) });

  expect(await pass()).toMatchObject({ silent: 1 });
  const [host] = await platform.database.db.select().from(hosts);
  const missing = [await row(running), await row(lost), await row(paused)];
  const event = await lastEvent();
  await setHost({ status: "online", lastHeartbeatAt: new Date() });
  platform.agent.capsules.delete(encodeId("capsule", lost));
  platform.agent.capsules.delete(encodeId("capsule", paused));
  expect(await pass()).toMatchObject({ lost: 1, restored: 1 });

  expect(host?.status).toBe("unreachable");
  expect(missing.map((found) => found?.status)).toEqual(["missing", "missing", "paused"]);
  expect(event?.metadata).toEqual({ from: "running", to: "missing", reason: "host_unreachable" });
  const after = [await row(running), await row(lost), await row(paused)];
  expect(after.map((found) => found?.status)).toEqual(["running", "stopped", "paused"]);
});

test("a restored capsule keeps the time it began to run", async () => {
  const id = await createdId();
  const before = await row(id);
  await set(id, "missing");

  await pass();

  expect((await row(id))?.startedAt).toEqual(before?.startedAt ?? null);
  expect(await lastEvent()).toMatchObject({
    type: "capsule.state.changed",
    metadata: { reason: "restored_after_host_recovery", inferred: "true" },
  });
});

test("a silent host of a team is told to the team", async () => {
  const team = await addTeam(platform.database, true);
  const hostId = await addHost(platform.database, platform.agent.address, {
    type: "byoc",
    teamId: team.id,
    lastHeartbeatAt: new Date(Date.now() - 91_000),
  });

  await pass();

  expect(await lastEvent()).toMatchObject({
    teamId: team.id,
    type: "host.down",
    outcome: "",
    resource: { type: "host", id: encodeId("host", hostId) },
  });
  await platform.database.db.delete(hosts).where(eq(hosts.id, hostId));
});

test("a host that answers no question keeps its capsules until it is silent", async () => {
  const id = await createdId();
  await setHost({ address: "127.0.0.1:1" });

  await pass();

  expect((await row(id))?.status).toBe("running");
  await setHost({ address: platform.agent.address });
});

test("later activity that only the host saw is taken over", async () => {
  const id = await createdId();
  await platform.database.db.update(capsules).set({ lastActiveAt: sql`now() - interval '1 hour'` });

  await pass();

  const ageMs = Date.now() - ((await row(id))?.lastActiveAt?.getTime() ?? 0);
  expect(ageMs).toBeLessThan(60_000);
});

test("two control planes that reconcile at once make one change", async () => {
  await createdId();
  platform.agent.capsules.clear();

  const passes = await Promise.all([pass(), pass(), pass()]);

  expect(passes.reduce((sum, { lost }) => sum + (lost ?? 0), 0)).toBe(1);
  const all = await platform.database.db.select().from(events);
  expect(all.filter(({ type }) => type === "capsule.destroy")).toHaveLength(1);
});
