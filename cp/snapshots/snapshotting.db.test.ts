// What is told of a capsule while snapshots of it are made, and what may be done to it meanwhile.

import { afterEach, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { sql } from "drizzle-orm";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  type Answer,
  TestControlPlane,
  TestPlatform,
  toAnswer,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { settleOperations } from "../capsules/settle.ts";
import { capsules, events, hosts, templateOperations } from "../db/tables.ts";
import { settleTemplatesLoop } from "../loops/settle-templates.ts";
import { markSilentHosts } from "../monitor/silence.ts";
import { Operations } from "../operations/operations.ts";
import { Placements } from "../proxy/placements.ts";
import { lockHost } from "../scheduler/host-loads.ts";

const SOURCES = ["running", "paused"] as const;

const platform = await forThisFile(TestPlatform.start());

afterEach(() => platform.forgetCapsules());

const post = (path: string, body: unknown = {}) => platform.call("POST", path, { body });
const code = ({ status, body }: Answer) => [status, body.error?.code];

async function statusOf(id: string, base = ""): Promise<unknown> {
  return (await platform.call("GET", `${base}/v1/capsules/${id}`)).body.status;
}

async function isStatus(id: string, status: string): Promise<void> {
  await waitFor(`the capsule ${status}`, () => statusOf(id), { holds: (seen) => seen === status });
}

async function capsuleThatIs(source: (typeof SOURCES)[number]): Promise<string> {
  const id = await platform.create({ timeout_sec: 60 });
  if (source === "paused") await post(`/v1/capsules/${id}/pause`);
  return id;
}

/** Begins a snapshot whose host is at it until it is let go. */
async function snapshotting(id: string, name = "ours") {
  const { promise, resolve } = Promise.withResolvers<void>();
  const called = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSnapshot", async () => {
    called.resolve();
    await promise;
  });
  const made = post("/v1/snapshots", { sandbox_id: id, name });
  await called.promise;
  return { made, letGo: resolve };
}

/** What the capsule's events say of its way, which leads to where it is. */
async function path(id: string): Promise<unknown[]> {
  const all = await platform.database.db.select().from(events).orderBy(events.id);
  const steps = all
    .filter(({ resource }) => resource.id === id)
    .map(({ metadata: { from, to } }) => ({ from, to }));
  expect(steps.slice(1).map(({ from }) => from)).toEqual(steps.slice(0, -1).map(({ to }) => to));
  expect(steps.at(-1)?.to).toBe((await platform.database.db.select().from(capsules))[0]?.status);
  return steps.map(({ to }) => to);
}

function settleTemplates(): Promise<Record<string, number>> {
  return settleTemplatesLoop(platform.controlPlane.deps).run(new AbortController().signal);
}

const settleCapsules = () => settleOperations(platform.controlPlane.deps);

test.each(SOURCES)("a %s capsule is `snapshotting` until the template is there", async (source) => {
  const id = await capsuleThatIs(source);
  const { made, letGo } = await snapshotting(id);

  const during = await Promise.all([statusOf(id), statusOf(id, "/compat/0.1")]);
  const lists = await Promise.all(
    ["", "/compat/0.1"].map(async (base) => {
      const { body } = await platform.call("GET", `${base}/v1/capsules`);
      return Object.values(body).map((listed) => (listed as { status: string }).status);
    }),
  );
  letGo();
  await isStatus(id, source);
  const listed = await platform.call("GET", "/v1/snapshots?type=snapshot");

  expect(during).toEqual(["snapshotting", source]);
  expect(lists).toEqual([["snapshotting"], [source]]);
  expect(Object.values(listed.body)).toMatchObject([{ name: "ours" }]);
  expect((await made).status).toBe(201);
  expect((await path(id)).slice(-2)).toEqual(["snapshotting", source]);
});

test("what is not waited for is answered with the capsule as it is then", async () => {
  const id = await capsuleThatIs("running");
  const { promise, resolve } = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSnapshot", () => promise);

  const answer = await platform.call("POST", "/v1/snapshots", {
    body: { sandbox_id: id },
    headers: { prefer: "respond-async" },
  });
  resolve();

  expect(answer).toMatchObject({ status: 202, body: { id, status: "snapshotting" } });
  await isStatus(id, "running");
});

// Their client takes any 2xx that is a template; what it asks for next is that name.
test("the first clients are told of the template as it will be when it is late", async () => {
  const id = await platform.create({ vcpus: 2, memory_mb: 768 });
  const { promise, resolve } = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSnapshot", () => promise);

  const answer = await platform.call("POST", "/compat/0.1/v1/snapshots", {
    body: { sandbox_id: id },
    headers: { prefer: "wait=0" },
  });
  resolve();
  await isStatus(id, "running");
  const { body } = await platform.call("GET", "/compat/0.1/v1/snapshots?type=snapshot");

  const known = { type: "snapshot", vcpus: 2, memory_mb: 768, owned: true, public: false };
  expect(answer).toMatchObject({ status: 202, body: { ...known, size_bytes: 0 } });
  expect(answer.body.name).toMatch(/^template-[0-9a-f]{8}$/);
  const { name, created_at } = answer.body;
  expect(Object.values(body)).toMatchObject([{ ...known, name, size_bytes: 4096 }]);
  expect(new Date(String(created_at)).getTime()).toBeGreaterThan(Date.now() - 60_000);
});

test("a running capsule works on meanwhile: commands, files, its timer and its ports", async () => {
  const id = await capsuleThatIs("running");
  const { made, letGo } = await snapshotting(id);
  const [row] = await platform.database.db.select().from(capsules);

  const answers = [
    await post(`/v1/capsules/${id}/exec`, { cmd: "echo", args: ["on"] }),
    await post(`/v1/capsules/${id}/files/mkdir`, { path: "/kept" }),
    await platform.call("GET", `/v1/capsules/${id}/metrics?range=5m`),
    await post(`/v1/capsules/${id}/ping`),
    await post(`/v1/capsules/${id}/fork`),
  ];
  const placement = row && (await new Placements(platform.database.db).of(row.id));
  const still = await statusOf(id);
  letGo();
  await made;

  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 204, 201]);
  expect(placement?.status).toBe("running");
  expect(still).toBe("snapshotting");
});

test("a paused one refuses what it refuses without, and says why", async () => {
  const id = await capsuleThatIs("paused");
  const { made, letGo } = await snapshotting(id);

  const refused = await post(`/v1/capsules/${id}/exec`, { cmd: "true" });
  letGo();
  await made;

  expect(refused).toMatchObject({
    status: 409,
    body: { error: { code: "invalid_state", reason: "sandbox_not_running", status: "paused" } },
  });
});

test("a paused one holds no more of its host meanwhile, a running one no less", async () => {
  const held = async () => {
    const load = await platform.database.db.transaction((tx) => lockHost(tx, platform.hostId));
    return load?.usedMemoryMb;
  };
  const rest = [];
  for (const source of SOURCES) {
    const id = await capsuleThatIs(source);
    const before = await held();
    const { made, letGo } = await snapshotting(id, source);
    rest.push((await held()) === before);
    letGo();
    await made;
    await platform.call("DELETE", `/v1/capsules/${id}`);
  }

  expect(rest).toEqual([true, true]);
});

test.each([
  ["running", "pause", "paused"],
  ["paused", "resume", "running"],
] as const)(
  "a %s capsule can be told to %s meanwhile, and is %s after it",
  async (source, verb, end) => {
    const id = await capsuleThatIs(source);
    const { made, letGo } = await snapshotting(id);

    const changed = await post(`/v1/capsules/${id}/${verb}`);
    const seen = await statusOf(id);
    letGo();

    expect([changed.status, seen]).toEqual([200, end]);
    expect((await made).status).toBe(201);
    expect(await statusOf(id)).toBe(end);
    await path(id);
  },
);

test.each([
  ["running", "resume", "sandbox_not_paused"],
  ["paused", "pause", "sandbox_not_running"],
] as const)("a %s capsule cannot be told to %s meanwhile either", async (source, verb, reason) => {
  const id = await capsuleThatIs(source);
  const { made, letGo } = await snapshotting(id);

  const refused = await post(`/v1/capsules/${id}/${verb}`);
  letGo();
  await made;

  expect(refused).toMatchObject({ status: 409, body: { error: { reason, status: source } } });
});

test("of two snapshots at once the later one ends it", async () => {
  const id = await capsuleThatIs("running");
  const first = await snapshotting(id, "first");
  const second = await snapshotting(id, "second");

  first.letGo();
  const answer = await first.made;
  const between = await statusOf(id);
  second.letGo();

  expect([answer.status, between]).toEqual([201, "snapshotting"]);
  expect([(await second.made).status, await statusOf(id)]).toEqual([201, "running"]);
  expect((await path(id)).slice(-2)).toEqual(["snapshotting", "running"]);
});

test("two that end at the same time leave it as it was, whoever is first", async () => {
  const id = await capsuleThatIs("running");
  for (let round = 0; round < 5; round++) {
    const both = [await snapshotting(id, `a-${round}`), await snapshotting(id, `b-${round}`)];
    for (const { letGo } of both) letGo();
    await Promise.all(both.map(({ made }) => made));

    expect(await statusOf(id)).toBe("running");
  }
});

test("one that fails leaves it as it was, and one that cannot begin never touches it", async () => {
  const id = await capsuleThatIs("running");
  await (await snapshotting(id)).letGo();
  await isStatus(id, "running");
  const before = (await path(id)).length;
  const taken = await post("/v1/snapshots", { sandbox_id: id, name: "ours" });
  const untouched = (await path(id)).length;
  platform.agent.faultBefore("createSnapshot", () => {
    throw new ConnectError("no", Code.Internal);
  });
  const failed = await post("/v1/snapshots", { sandbox_id: id, name: "other" });

  expect(code(taken)).toEqual([409, "template_name_taken"]);
  expect(untouched).toBe(before);
  expect([...code(failed), await statusOf(id)]).toEqual([502, "agent_error", "running"]);
});

test("a destroy wins, and what the snapshot comes to changes nothing", async () => {
  const id = await capsuleThatIs("running");
  const { made, letGo } = await snapshotting(id);

  const destroyed = await platform.call("DELETE", `/v1/capsules/${id}`);
  letGo();
  await made;

  expect([destroyed.status, await statusOf(id)]).toEqual([204, "stopped"]);
  await path(id);
});

test.each(SOURCES)(
  "a %s capsule whose control plane died is as it was when the next has ended the snapshot",
  async (source) => {
    const id = await capsuleThatIs(source);
    const { made, letGo } = await snapshotting(id);
    await using dead = await Operations.open(platform.database.url);
    await platform.database.db.update(templateOperations).set({ operationId: dead.next() });
    await dead[Symbol.asyncDispose]();

    const early = await settleCapsules();
    const during = await statusOf(id);
    await waitFor("a pass that settles it", settleTemplates, { holds: (all) => all.settled === 1 });
    const after = await statusOf(id);
    letGo();

    expect([early.claimed, during, after]).toEqual([0, "snapshotting", source]);
    expect((await made).status).toBe(201);
    expect(await statusOf(id)).toBe(source);
    expect((await path(id)).slice(-2)).toEqual(["snapshotting", source]);
  },
);

test("a host that never answers keeps it there no longer than the snapshot has", async () => {
  const id = await capsuleThatIs("running");
  const { made, letGo } = await snapshotting(id);
  await using second = await TestControlPlane.start(platform.database);
  const { db } = platform.database;
  const past = sql`now() - interval '1 hour'`;
  await db.update(capsules).set({ stateDeadline: past });

  const waiting = await settleOperations(second.deps);
  const during = await statusOf(id);
  await db.update(templateOperations).set({ deadline: past, createdAt: past });
  const passes = await Promise.all([settleTemplates(), settleTemplates()]);
  const after = await statusOf(id);
  letGo();

  expect([waiting, during]).toEqual([{ claimed: 1, settled: 0 }, "snapshotting"]);
  expect(passes.reduce((sum, { settled = 0 }) => sum + settled, 0)).toBe(1);
  expect(after).toBe("running");
  // Whoever waited for it hears that it was given up.
  expect(code(await made)).toEqual([409, "conflict"]);
  expect(await statusOf(id)).toBe("running");
});

test("one whose snapshot is on no record any more is as it was at its deadline", async () => {
  const id = await capsuleThatIs("paused");
  const { made, letGo } = await snapshotting(id);
  await platform.database.db.delete(templateOperations);
  const early = await settleCapsules();
  // If it has none, it has none an hour later.
  const anHourOn = sql`${capsules.stateDeadline} - interval '1 hour'`;
  await platform.database.db.update(capsules).set({ stateDeadline: anHourOn });

  const late = await settleCapsules();
  letGo();
  await made;

  expect([early, late]).toEqual([
    { claimed: 0, settled: 0 },
    { claimed: 1, settled: 1 },
  ]);
  expect(await statusOf(id)).toBe("paused");
});

test.each([
  ["running", "missing"],
  ["paused", "paused"],
] as const)("of a host that fell silent a %s one is %s", async (source, end) => {
  const id = await capsuleThatIs(source);
  const { made, letGo } = await snapshotting(id);
  const { db } = platform.database;
  await db.update(hosts).set({ lastHeartbeatAt: sql`now() - interval '1 hour'` });

  await markSilentHosts(platform.controlPlane.deps);
  const silent = await statusOf(id);
  await db.update(hosts).set({ status: "online", lastHeartbeatAt: sql`now()` });
  letGo();
  await made;

  expect(silent).toBe(end);
  expect(await statusOf(id)).toBe(end);
  await path(id);
});

test("a pause that waits for the snapshot is not given up while that is under way", async () => {
  const id = await capsuleThatIs("running");
  const snapshot = await snapshotting(id);
  const held = Promise.withResolvers<void>();
  platform.agent.faultBefore("pauseSandbox", () => held.promise);
  const stopping = await TestControlPlane.start(platform.database);
  const request = new Request(`http://localhost/v1/capsules/${id}/pause`, {
    method: "POST",
    headers: { "x-api-key": platform.team.apiKey, prefer: "respond-async" },
  });
  const accepted = await toAnswer(await stopping.handle(request));
  await stopping.deps.operations[Symbol.asyncDispose]();

  const during = await settleCapsules();
  const seen = await statusOf(id);
  held.resolve();
  await waitFor("a pass that settles it", settleCapsules, { holds: (all) => all.settled === 1 });
  snapshot.letGo();
  await snapshot.made;
  await stopping[Symbol.asyncDispose]();

  expect([accepted.status, during, seen]).toEqual([202, { claimed: 1, settled: 0 }, "pausing"]);
  expect(await statusOf(id)).toBe("paused");
});
