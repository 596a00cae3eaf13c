import { afterEach, expect, test } from "bun:test";
import { eq, sql } from "drizzle-orm";
import { decodeId, encodeId, type Id, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import { addHost, addTeam, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import type { CapsuleState } from "../capsule-states.ts";
import { capsules, events, hosts } from "../db/tables.ts";
import { monitorHostsLoop } from "../loops/monitor-hosts.ts";
import { updateDurable } from "./queries.ts";
import { reconcileHost } from "./reconcile.ts";
import type { UnknownPolicy } from "./unknown.ts";

const platform = await forThisFile(TestPlatform.start());

afterEach(async () => {
  await platform.database.db.delete(capsules);
  await platform.database.db.delete(events);
  await platform.database.sql`delete from unknown_capsules`;
  platform.agent.capsules.clear();
  await setHost({ status: "online", lastHeartbeatAt: new Date() });
});

function pass(policy: UnknownPolicy = "quarantine"): Promise<Record<string, number>> {
  return monitorHostsLoop(platform.controlPlane.deps, policy).run(new AbortController().signal);
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

test("what a capsule's disk takes is told of it alone, from when its host has measured it", async () => {
  const id = await createdId();
  const wireId = encodeId("capsule", id);
  const simulated = platform.agent.capsules.get(wireId);
  if (simulated === undefined) throw new Error("unreachable: it was created");
  const seen = async () => {
    const { body } = await platform.call("GET", `/v1/capsules/${wireId}`);
    return [body.disk_size_mb, body.disk_used_mb];
  };

  await pass();
  const before = await seen();
  simulated.diskUsedBytes = 5n * 1024n * 1024n + 1n;
  await pass();
  const measured = await seen();
  await platform.call("POST", `/v1/capsules/${wireId}/pause`);
  simulated.diskUsedBytes = null;
  await pass();
  const calls = platform.agent.calls.length;
  const rested = await seen();
  const listed = await platform.call("GET", "/v1/capsules");

  expect([before, measured, rested]).toEqual([
    [5120, undefined],
    [5120, 6],
    [5120, 6],
  ]);
  expect(platform.agent.calls).toHaveLength(calls);
  expect(JSON.stringify(listed.body)).not.toContain("disk_used_mb");
});

test("a capsule that has not booted has no disk", async () => {
  const wireId = encodeId("capsule", await createdId());
  await platform.database.db.update(capsules).set({ status: "starting", startedAt: null });

  const { body } = await platform.call("GET", `/v1/capsules/${wireId}`);

  expect(body.disk_size_mb).toBe(0);
});

test("where record and host agree nothing happens", async () => {
  const id = await createdId();
  const before = await row(id);

  expect(await pass()).toEqual({
    ...{ silent: 0, lost: 0, paused: 0, restored: 0, destroyed: 0 },
    ...{ unknown: 0, quarantined: 0 },
  });

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

// Addresses pass from one machine to another: a host that has none of these capsules has not lost them.
test("what another host's agent answers says nothing about the capsules", async () => {
  const id = await createdId();
  const path = `/v1/capsules/${encodeId("capsule", id)}`;
  await using other = new SimulatedAgent({ hostId: encodeId("host", newId("host")) });
  await setHost({ address: other.address });

  const counts = await pass();
  const before = await row(id);
  const asked = await platform.call("POST", `${path}/exec`, { body: { cmd: "true" } });
  const created = await platform.call("POST", "/v1/capsules", { body: {} });
  await platform.call("DELETE", path, { headers: { Prefer: "wait=1" } });
  const promised = await row(id);
  await setHost({ address: platform.agent.address });

  expect(counts).toMatchObject({ lost: 0 });
  expect(before?.status).toBe("running");
  expect([asked.status, asked.body.error.code]).toEqual([503, "host_unavailable"]);
  expect([created.status, created.body.error.code]).toEqual([503, "no_hosts_available"]);
  expect(promised?.status).toBe("stopping");
  expect(other.calls).toEqual([]);
});

// Its disk, and often a memory of before, are still there: nobody else may throw them away.
test("a capsule whose VMM ended rests with the host's reason until its owner decides", async () => {
  const id = await createdId();
  const path = `/v1/capsules/${encodeId("capsule", id)}`;
  platform.agent.loseCapsule(encodeId("capsule", id), "the microVM ended: signal 9");

  expect(await pass()).toMatchObject({ lost: 0, paused: 1, destroyed: 0 });
  const rested = await row(id);
  expect(await pass()).toMatchObject({ lost: 0, paused: 0, destroyed: 0 });
  const memory = await platform.call("POST", `${path}/resume`, { body: { from: "memory" } });
  const resumed = await platform.call("POST", `${path}/resume`);

  expect(rested).toMatchObject({ status: "paused", reason: "the microVM ended: signal 9" });
  expect([memory.status, memory.body.error.code]).toEqual([409, "invalid_state"]);
  expect(resumed).toMatchObject({
    status: 200,
    body: { status: "running", metadata: { resumed_from: "disk" } },
  });
  expect(resumed.body.reason).toBeUndefined();
});

// The agent's answer may have been on its way when the capsule began to run.
test("a capsule that began to run after the host was asked is not called lost", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultAfter("listSandboxes", () => hold.promise);
  const { deps } = platform.controlPlane;
  const host = { ...platform.agent.place, id: platform.hostId };
  const reconciling = reconcileHost(deps, host, "quarantine");
  await waitFor("a call under way at the agent", () => platform.agent.underWay > 0);

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

/** A capsule on the host that nothing tells of, created as long ago as told. */
async function strangerOf(ageMs: number): Promise<string> {
  const id = encodeId("capsule", newId("capsule"));
  const client = platform.controlPlane.deps.agents.at(platform.agent.place);
  const operationId = crypto.randomUUID();
  await client.createSandbox({ sandboxId: id, operationId, vcpus: 1, memoryMb: 128 });
  const stranger = platform.agent.capsules.get(id);
  if (stranger === undefined) throw new Error("unreachable: it was just created");
  platform.agent.capsules.set(id, { ...stranger, createdAt: Date.now() - ageMs });
  return id;
}

async function seenAgo(interval: string): Promise<void> {
  await platform.database
    .sql`update unknown_capsules set first_seen_at = now() - ${interval}::interval`;
}

const stateOf = (id: string) => platform.agent.capsules.get(id)?.status;

// A database restored from yesterday knows none of today's capsules: their age says nothing.
test("a capsule that no record knows is left alone for an hour, then paused, and kept", async () => {
  const id = await strangerOf(48 * 3600_000);

  expect(await pass()).toMatchObject({ unknown: 1, quarantined: 0, destroyed: 0 });
  await seenAgo("59 minutes");
  expect(await pass()).toMatchObject({ unknown: 1, quarantined: 0, destroyed: 0 });
  expect(stateOf(id)).toBe("running");
  await seenAgo("61 minutes");
  expect(await pass()).toMatchObject({ unknown: 1, quarantined: 1, destroyed: 0 });
  expect(stateOf(id)).toBe("paused");
  await seenAgo("400 days");
  expect(await pass()).toMatchObject({ unknown: 1, quarantined: 0, destroyed: 0 });

  expect(stateOf(id)).toBe("paused");
});

test("only an operator's word has it destroyed, after a week", async () => {
  const id = await strangerOf(0);
  await pass("destroy");
  await seenAgo("6 days");
  expect(await pass("destroy")).toMatchObject({ quarantined: 1, destroyed: 0 });
  expect(stateOf(id)).toBe("paused");
  await seenAgo("8 days");

  expect(await pass("destroy")).toMatchObject({ destroyed: 1 });

  expect(platform.agent.capsules.size).toBe(0);
});

test("a capsule that becomes known again is forgotten as unknown", async () => {
  await strangerOf(0);
  await pass();
  await seenAgo("59 minutes");
  platform.agent.capsules.clear();
  await pass();

  expect(await platform.database.sql`select capsule_id from unknown_capsules`).toHaveLength(0);
});

// Nobody asked for its end: the host's answer was wrong, or its agent served another directory for a while.
test("a capsule that was given up as lost and comes back is kept", async () => {
  const id = await createdId();
  const wireId = encodeId("capsule", id);
  const onHost = platform.agent.capsules.get(wireId);
  platform.agent.capsules.clear();
  await pass();
  expect((await row(id))?.status).toBe("stopped");
  if (onHost !== undefined) platform.agent.capsules.set(wireId, onHost);

  expect(await pass()).toMatchObject({ unknown: 1, destroyed: 0 });

  expect(stateOf(wireId)).toBe("running");
});

test("a host that registered again brings the capsules of its old name along", async () => {
  const id = await createdId();
  const gone = newId("host");
  await platform.database.db.update(capsules).set({ hostId: gone }).where(eq(capsules.id, id));

  expect(await pass()).toMatchObject({ unknown: 0, lost: 0 });

  expect(await row(id)).toMatchObject({ hostId: platform.hostId, status: "running" });
});

test("what another host has on record is left to it", async () => {
  const id = await createdId();
  const other = await addHost(platform.database, "127.0.0.1:1", {});
  await platform.database.db.update(capsules).set({ hostId: other }).where(eq(capsules.id, id));

  expect(await pass()).toMatchObject({ unknown: 1, destroyed: 0 });

  expect(await row(id)).toMatchObject({ hostId: other, status: "running" });
  await platform.database.db.delete(hosts).where(eq(hosts.id, other));
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

// The host's answer may tell of the pause before: this one's memory is not on the disk yet.
test("what a host said before a pause does not make it durable", async () => {
  const { db } = platform.database;
  const id = await createdId();
  await set(id, "paused");
  const durable = [{ id, unixSec: Math.floor(Date.now() / 1000) }];
  const pausedAt = (await row(id))?.lastUpdated ?? new Date();

  await updateDurable(db, durable, new Date(pausedAt.getTime() - 1000));
  expect((await row(id))?.durableAt).toBeNull();
  await updateDurable(db, durable, new Date(pausedAt.getTime() + 1000));
  expect((await row(id))?.durableAt).not.toBeNull();
});
