// Pausing and resuming, with every way it can go wrong.

import { afterEach, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { eq, sql } from "drizzle-orm";
import { decodeId, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  type Answer,
  addTeam,
  TestControlPlane,
  TestPlatform,
  toAnswer,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, events, hosts } from "../db/tables.ts";
import { monitorHostsLoop } from "../loops/monitor-hosts.ts";

const platform = await forThisFile(TestPlatform.start());

afterEach(async () => {
  await platform.database.db.delete(capsules);
  await platform.database.db.delete(events);
  platform.agent.capsules.clear();
  platform.agent.pauses.takesMs = 0;
});

const pause = (id: string) => platform.call("POST", `/v1/capsules/${id}/pause`);
const resume = (id: string, body?: unknown) =>
  platform.call("POST", `/v1/capsules/${id}/resume`, body === undefined ? {} : { body });

async function row(id: string) {
  const own = eq(capsules.id, decodeId("capsule", id) ?? newId("capsule"));
  return (await platform.database.db.select().from(capsules).where(own))[0];
}

async function eventsOf(id: string) {
  const all = await platform.database.db.select().from(events).orderBy(events.id);
  return all
    .filter(({ resource }) => resource.id === id)
    .map(({ type, outcome, metadata }) => [type, outcome, metadata.from, metadata.to]);
}

const code = ({ status, body }: Answer) => [status, body.error?.code];

test("a paused capsule rests, and comes back with its files", async () => {
  const id = await platform.create({});
  await platform.call("POST", `/v1/capsules/${id}/files/mkdir`, { body: { path: "/kept" } });

  const paused = await pause(id);
  const listed = await platform.call("GET", "/v1/capsules");
  const resumed = await resume(id);
  const files = await platform.call("POST", `/v1/capsules/${id}/files/list`, {
    body: { path: "/" },
  });

  expect(paused).toMatchObject({ status: 200, body: { id, status: "paused" } });
  expect<unknown>(listed.body).toMatchObject([{ id, status: "paused" }]);
  expect(resumed).toMatchObject({
    status: 200,
    body: { id, status: "running", metadata: { resumed_from: "memory", vmm: "simulated" } },
  });
  expect(JSON.stringify(files.body)).toContain("/kept");
  expect(await eventsOf(id)).toEqual([
    ["capsule.state.changed", "", undefined, "pending"],
    ["capsule.state.changed", "", "pending", "starting"],
    ["capsule.create", "success", "starting", "running"],
    ["capsule.state.changed", "", "running", "pausing"],
    ["capsule.pause", "success", "pausing", "paused"],
    ["capsule.state.changed", "", "paused", "resuming"],
    ["capsule.resume", "success", "resuming", "running"],
  ]);
});

test("the pause is one fact, that it is durable another, told when the host says so", async () => {
  const id = await platform.create({});
  platform.agent.pauses.isSealing = false;
  const paused = await pause(id);
  await monitor();
  const before = await platform.call("GET", `/v1/capsules/${id}`);
  const onHost = platform.agent.capsules.get(id);
  if (onHost !== undefined) onHost.durableAtUnix = 1_700_000_000n;
  await monitor();
  const after = await platform.call("GET", `/v1/capsules/${id}`);
  platform.agent.pauses.isSealing = true;
  const resumed = await resume(id);

  expect([paused.body.durable_at, before.body.durable_at]).toEqual([undefined, undefined]);
  expect(after.body).toMatchObject({ status: "paused", durable_at: "2023-11-14T22:13:20Z" });
  expect(resumed.body.durable_at).toBeUndefined();
});

test("only a running capsule is paused, and only a paused one resumed", async () => {
  const id = await platform.create({});
  const other = await addTeam(platform.database);

  const early = await resume(id);
  await pause(id);
  const again = await pause(id);
  const exec = await platform.call("POST", `/v1/capsules/${id}/exec`, { body: { cmd: "true" } });
  const ping = await platform.call("POST", `/v1/capsules/${id}/ping`);
  const foreign = await platform.call("POST", `/v1/capsules/${id}/resume`, { team: other });
  const malformed = await pause("cl-no");

  expect([early, again, exec, ping, foreign, malformed].map(code)).toEqual([
    [409, "invalid_state"],
    [409, "invalid_state"],
    [409, "invalid_state"],
    [409, "invalid_state"],
    [404, "not_found"],
    [400, "invalid_request"],
  ]);
  expect(again.body.error.message).toBe("the capsule is not running: it is paused");
});

test("a pause that the host refuses leaves the capsule running, and says so", async () => {
  const id = await platform.create({});
  platform.agent.faultBefore("pauseSandbox", () => {
    throw new ConnectError("the disk is full", Code.ResourceExhausted);
  });

  const answer = await pause(id);

  expect(code(answer)).toEqual([503, "no_hosts_available"]);
  expect((await row(id))?.status).toBe("running");
  expect((await eventsOf(id)).at(-1)).toEqual(["capsule.pause", "error", "pausing", "running"]);
});

test("a pause whose answer is lost is paused all the same", async () => {
  const id = await platform.create({});
  platform.agent.faultAfter("pauseSandbox", () => {
    throw new ConnectError("lost", Code.Unavailable);
  });

  expect(await pause(id)).toMatchObject({ status: 200, body: { status: "paused" } });
});

test("a pause during which the VMM is lost leaves what there is at rest, and fails", async () => {
  const id = await platform.create({});
  platform.agent.faultBefore("pauseSandbox", () => {
    platform.agent.loseCapsule(id, "the microVM ended: signal 9");
    throw new ConnectError("lost", Code.Internal);
  });

  const answer = await pause(id);

  expect(code(answer)).toEqual([502, "agent_error"]);
  expect(await row(id)).toMatchObject({ status: "paused", reason: "the microVM ended: signal 9" });
});

test("while nobody knows how a pause ended it is neither, and looks running to the first clients", async () => {
  const id = await platform.create({});
  platform.agent.faultBefore("pauseSandbox", () => {
    throw new ConnectError("away", Code.Unavailable);
  });
  platform.agent.faultBefore("listSandboxes", () => {
    throw new ConnectError("away", Code.Unavailable);
  });

  const answer = await pause(id);
  const seen = await platform.call("GET", `/v1/capsules/${id}`);
  const seenByFirst = await platform.call("GET", `/compat/0.1/v1/capsules/${id}`);

  expect(code(answer)).toEqual([503, "host_unavailable"]);
  expect([seen.body.status, seenByFirst.body.status]).toEqual(["pausing", "running"]);
});

test("a resume that fails leaves the capsule paused", async () => {
  const id = await platform.create({});
  await pause(id);
  const refuse = (error: ConnectError) =>
    platform.agent.faultBefore("resumeSandbox", () => {
      throw error;
    });

  refuse(new ConnectError("no whole generation is left", Code.FailedPrecondition));
  const damaged = await resume(id);
  refuse(new ConnectError("no slot", Code.ResourceExhausted));
  const full = await resume(id);

  expect([damaged, full].map(code)).toEqual([
    [409, "invalid_state"],
    [503, "no_hosts_available"],
  ]);
  expect((await row(id))?.status).toBe("paused");
  expect((await eventsOf(id)).at(-1)).toEqual(["capsule.resume", "error", "resuming", "paused"]);
  expect((await resume(id)).status).toBe(200);
});

// The capsule is gone from its host, but nobody may conclude that from one missing entry.
test("a resume of what the host does not know leaves it paused, for people to look at", async () => {
  const id = await platform.create({});
  await pause(id);
  platform.agent.capsules.clear();

  const answer = await resume(id);
  await monitor();

  expect(code(answer)).toEqual([409, "invalid_state"]);
  expect((await row(id))?.status).toBe("paused");
});

test("ten resumes at once, on two control planes, make one VM and nine conflicts", async () => {
  await using second = await TestControlPlane.start(platform.database);
  const id = await platform.create({});
  await pause(id);
  platform.agent.pauses.takesMs = 100;
  const calls = platform.agent.calls.filter((method) => method === "resumeSandbox").length;
  const request = () =>
    new Request(`http://localhost/v1/capsules/${id}/resume`, {
      method: "POST",
      headers: { "x-api-key": platform.team.apiKey },
    });

  const answers = await Promise.all(
    Array.from({ length: 5 }, () => [platform.controlPlane, second])
      .flat()
      .map(async (each) => toAnswer(await each.handle(request()))),
  );

  const statuses = answers.map(({ status }) => status).toSorted();
  expect(statuses).toEqual([200, ...Array(9).fill(409)]);
  const after = platform.agent.calls.filter((method) => method === "resumeSandbox").length;
  expect(after - calls).toBe(1);
});

test.each(["pause", "resume"] as const)("a destroy during a %s wins", async (verb) => {
  const id = await platform.create({});
  if (verb === "resume") await pause(id);
  // Longer than a destroy takes to come on any machine: that ends it.
  platform.agent.pauses.takesMs = 20_000;
  const changing = platform.call("POST", `/v1/capsules/${id}/${verb}`);
  await waitFor("the row to be pausing or resuming", async () => (await row(id))?.status, {
    holds: (status) => status === "pausing" || status === "resuming",
  });

  const destroyed = await platform.call("DELETE", `/v1/capsules/${id}`);
  const answer = await changing;

  expect([destroyed.status, answer.status]).toEqual([204, 409]);
  expect((await row(id))?.status).toBe("stopped");
  expect(platform.agent.capsules.size).toBe(0);
});

test("a paused capsule is destroyed like any other", async () => {
  const id = await platform.create({});
  await pause(id);

  const answer = await platform.call("DELETE", `/v1/capsules/${id}`);

  expect(answer.status).toBe(204);
  expect(platform.agent.capsules.size).toBe(0);
});

test("a capsule whose host has no room left for it stays paused", async () => {
  const id = await platform.create({ memory_mb: 4096 });
  await pause(id);
  const [host] = await platform.database.db.select().from(hosts);
  await platform.database.db.update(hosts).set({ memoryMb: 5000 });

  const answer = await resume(id);
  await platform.database.db.update(hosts).set({ memoryMb: host?.memoryMb ?? 0 });

  expect(code(answer)).toEqual([503, "no_hosts_available"]);
  expect((await row(id))?.status).toBe("paused");
});

test("a host that does not answer is said to, and nothing changes", async () => {
  const [running, paused] = [await platform.create({}), await platform.create({})];
  await pause(paused);
  await platform.database.db.update(hosts).set({ status: "unreachable" });

  const answers = [await pause(running), await resume(paused)];
  await platform.database.db.update(hosts).set({ status: "online" });

  expect(answers.map(code)).toEqual([
    [503, "host_unavailable"],
    [503, "host_unavailable"],
  ]);
  expect(await platform.states()).toEqual({ running: 1, paused: 1 });
});

test("what the host paused by itself is paused on record, and the event says why", async () => {
  const [expired, reported] = [await platform.create({}), await platform.create({})];
  const onHost = [platform.agent.capsules.get(expired), platform.agent.capsules.get(reported)];
  for (const capsule of onHost) if (capsule !== undefined) platform.agent.pauses.expire(capsule);
  if (onHost[1] !== undefined) onHost[1].pauseReason = "requested";

  expect(await monitor()).toMatchObject({ paused: 2, lost: 0 });

  const all = await platform.database.db.select().from(events).orderBy(events.id);
  const pauses = all.filter(({ type }) => type === "capsule.pause");
  expect(pauses.map(({ resource, metadata }) => [resource.id, metadata.reason])).toEqual(
    expect.arrayContaining([
      [expired, "ttl_expired"],
      [reported, "host_state_sync"],
    ]),
  );
  expect(pauses.map(({ actor, outcome }) => [actor.type, outcome])).toEqual([
    ["system", "success"],
    ["system", "success"],
  ]);
  expect((await row(expired))?.durableAt).not.toBeNull();
});

// Two control planes, or one that died after it had read of it, must not lose a pause.
test("a pause that the host did by itself is reported until it is on record, and recorded once", async () => {
  const id = await platform.create({});
  const onHost = platform.agent.capsules.get(id);
  if (onHost !== undefined) platform.agent.pauses.expire(onHost);
  const client = platform.controlPlane.deps.agents.at(platform.agent.place);
  await client.listSandboxes({});

  const passes = await Promise.all([monitor(), monitor(), monitor()]);

  expect(passes.reduce((sum, { paused }) => sum + (paused ?? 0), 0)).toBe(1);
  expect((await resume(id)).status).toBe(200);
});

test("a pause whose host fell silent for the monitor is paused when the host answers", async () => {
  const id = await platform.create();
  platform.agent.faultAfter("pauseSandbox", async () => {
    await platform.database.db.update(capsules).set({ status: "missing" });
  });

  const { status, body } = await platform.call("POST", `/v1/capsules/${id}/pause`);

  expect([status, body.status]).toEqual([200, "paused"]);
});

test("paused while the control plane was away, a missing capsule is paused and resumable", async () => {
  const id = await platform.create({});
  await platform.database.db.update(capsules).set({ status: "missing" });
  const client = platform.controlPlane.deps.agents.at(platform.agent.place);
  await client.terminate({ pause: true });

  await monitor();

  expect((await row(id))?.status).toBe("paused");
  expect((await resume(id)).status).toBe(200);
});

test("a paused capsule is nobody's loss: neither of a host that lacks it nor of a silent one", async () => {
  const id = await platform.create({});
  await pause(id);
  const kept = new Map(platform.agent.capsules);
  platform.agent.capsules.clear();
  const absent = await monitor();
  await platform.database.db
    .update(hosts)
    .set({ lastHeartbeatAt: sql`now() - interval '2 minutes'` });
  const silent = await monitor();
  await platform.database.db.update(hosts).set({ status: "online", lastHeartbeatAt: sql`now()` });
  for (const [key, capsule] of kept) platform.agent.capsules.set(key, capsule);
  await monitor();

  expect([absent.lost, silent.silent, silent.lost]).toEqual([0, 1, 0]);
  expect((await row(id))?.status).toBe("paused");
});

test("a resume that reached the host after it was given up is taken over", async () => {
  const id = await platform.create({});
  await pause(id);
  const onHost = platform.agent.capsules.get(id);
  if (onHost !== undefined) onHost.status = "running";

  expect(await monitor()).toMatchObject({ restored: 1 });

  expect(await row(id)).toMatchObject({ status: "running", durableAt: null });
  expect((await eventsOf(id)).at(-1)).toEqual(["capsule.resume", "success", "paused", "running"]);
});

test("a capsule resumed after the host was asked is not paused again", async () => {
  const id = await platform.create({});
  await pause(id);
  const hold = Promise.withResolvers<void>();
  platform.agent.faultAfter("listSandboxes", () => hold.promise);
  const pass = monitor();
  await waitFor("a call under way at the agent", () => platform.agent.underWay > 0);

  await resume(id);
  hold.resolve();
  await pass;

  expect((await row(id))?.status).toBe("running");
});

function monitor(): Promise<Record<string, number>> {
  return monitorHostsLoop(platform.controlPlane.deps, "quarantine").run(
    new AbortController().signal,
  );
}
