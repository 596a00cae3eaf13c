import { afterEach, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { ne, sql } from "drizzle-orm";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  type Answer,
  addHost,
  addTeam,
  TestControlPlane,
  TestPlatform,
  toAnswer,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, events, hosts, templateOperations } from "../db/tables.ts";
import { settleTemplatesLoop } from "../loops/settle-templates.ts";
import { Operations } from "../operations/operations.ts";

/** Longer than a destroy takes to come on any machine: that ends it. */
const LONG_MS = 20_000;

const platform = await forThisFile(TestPlatform.start());

afterEach(async () => {
  await platform.forgetCapsules();
  platform.agent.pauses.takesMs = 0;
});

const create = (body: unknown, query = "") =>
  platform.call("POST", `/v1/snapshots${query}`, { body });
const remove = (name: string) => platform.call("DELETE", `/v1/snapshots/${name}`);
const names = async (query = "") => {
  const { body } = await platform.call("GET", `/v1/snapshots${query}`);
  return (Object.values(body) as { name: string }[]).map(({ name }) => name);
};
const code = ({ status, body }: Answer) => [status, body.error?.code];
const onHost = () => platform.agent.pauses.templates.size;
const underWay = async () => (await platform.database.db.select().from(templateOperations)).length;

function settle(): Promise<Record<string, number>> {
  return settleTemplatesLoop(platform.controlPlane.deps).run(new AbortController().signal);
}

async function recorded() {
  const all = await platform.database.db.select().from(events).orderBy(events.id);
  return all
    .filter(({ resource }) => resource.type === "snapshot")
    .map(({ type, outcome, resource }) => [type, outcome, resource.id]);
}

test("a capsule starts from a snapshot with its files and its size, the source goes on", async () => {
  const id = await platform.create({ vcpus: 2, memory_mb: 768 });
  await platform.call("POST", `/v1/capsules/${id}/files/mkdir`, { body: { path: "/kept" } });

  const made = await create({ sandbox_id: id, name: "ours" });
  const started = await platform.call("POST", "/v1/capsules", {
    body: { template: "ours", vcpus: 1, memory_mb: 128 },
  });
  const path = `/v1/capsules/${started.body.id}/files/list`;
  const files = await platform.call("POST", path, { body: { path: "/" } });
  const source = await platform.call("GET", `/v1/capsules/${id}`);

  expect(made).toMatchObject({
    status: 201,
    body: {
      name: "ours",
      type: "snapshot",
      vcpus: 2,
      memory_mb: 768,
      size_bytes: 4096,
      platform: false,
      metadata: { vmm: "simulated" },
    },
  });
  expect(started).toMatchObject({ status: 201, body: { vcpus: 2, memory_mb: 768 } });
  expect(JSON.stringify(files.body)).toContain("/kept");
  expect(source.body.status).toBe("running");
  expect(await recorded()).toEqual([["template.snapshot.create", "success", "ours"]]);
  expect(await underWay()).toBe(0);
});

test("a paused capsule gives a snapshot too, and stays paused; a name is found for it", async () => {
  const id = await platform.create();
  await platform.call("POST", `/v1/capsules/${id}/pause`);

  const made = await create({ sandbox_id: id });

  expect(made.body.name).toMatch(/^template-[0-9a-f]{8}$/);
  expect((await platform.call("GET", `/v1/capsules/${id}`)).body.status).toBe("paused");
});

test("own and platform templates are listed, newest first, by type if asked", async () => {
  const id = await platform.create();
  for (const name of ["first", "second"]) await create({ sandbox_id: id, name });
  const other = await addTeam(platform.database);
  const foreign = await platform.call("GET", "/v1/snapshots", { team: other });

  expect(await names("?type=snapshot")).toEqual(["second", "first"]);
  expect((await names()).slice(0, 2)).toEqual(["second", "first"]);
  expect(await names()).toHaveLength(7);
  expect(Object.values(foreign.body)).toHaveLength(5);
  expect(await names("?type=base")).toHaveLength(5);
  expect(code(await platform.call("GET", "/v1/snapshots?type=other"))).toEqual([
    400,
    "invalid_request",
  ]);
});

test.each(["minimal-debian", "minimal"])("%s is the platform's name", async (name) => {
  const id = await platform.create();

  const answer = await create({ sandbox_id: id, name }, "?overwrite=true");

  expect(code(answer)).toEqual([409, "name_reserved"]);
});

test("a wrong request is refused with what is wrong", async () => {
  const id = await platform.create();
  const stopped = await platform.create();
  await platform.call("DELETE", `/v1/capsules/${stopped}`);

  const answers = [
    await create({ sandbox_id: id, name: "-no" }),
    await create({ sandbox_id: id, name: "x".repeat(65) }),
    await create({ sandbox_id: "cl-no" }),
    await create({}),
    await create({ sandbox_id: `cl-${"0".repeat(25)}` }),
    await create({ sandbox_id: stopped }),
    await create({ sandbox_id: id }, "?overwrite=maybe"),
  ];

  expect(answers.map(code)).toEqual([
    [400, "invalid_request"],
    [400, "invalid_request"],
    [400, "invalid_request"],
    [400, "invalid_request"],
    [404, "not_found"],
    [409, "invalid_state"],
    [400, "invalid_request"],
  ]);
  expect(await underWay()).toBe(0);
});

test("a taken name is refused; overwrite replaces it once the new one is there", async () => {
  const [first, second] = [await platform.create(), await platform.create({ memory_mb: 1024 })];
  await create({ sandbox_id: first, name: "ours" });
  const taken = await create({ sandbox_id: second, name: "ours" });
  platform.agent.faultBefore("createSnapshot", () => {
    throw new ConnectError("no space", Code.ResourceExhausted);
  });
  const failed = await create({ sandbox_id: second, name: "ours" }, "?overwrite=true");
  const kept = await platform.create({ template: "ours" });

  const replaced = await create({ sandbox_id: second, name: "ours" }, "?overwrite=true");
  await waitFor("the template on the host", onHost, { holds: (count) => count === 1 });

  expect([taken, failed].map(code)).toEqual([
    [409, "template_name_taken"],
    [503, "no_hosts_available"],
  ]);
  expect(kept).toStartWith("cl-");
  expect(replaced).toMatchObject({ status: 201, body: { memory_mb: 1024 } });
  expect(await names("?type=snapshot")).toEqual(["ours"]);
  expect(await recorded()).toEqual([
    ["template.snapshot.create", "success", "ours"],
    ["template.snapshot.create", "error", "ours"],
    ["template.snapshot.delete", "success", "ours"],
    ["template.snapshot.create", "success", "ours"],
  ]);
});

test("of ten snapshots of one name at once one is made, on two control planes", async () => {
  await using second = await TestControlPlane.start(platform.database);
  const id = await platform.create();
  platform.agent.pauses.takesMs = 100;
  const request = () =>
    new Request("http://localhost/v1/snapshots", {
      method: "POST",
      headers: { "x-api-key": platform.team.apiKey, "content-type": "application/json" },
      body: JSON.stringify({ sandbox_id: id, name: "ours" }),
    });

  const answers = await Promise.all(
    Array.from({ length: 5 }, () => [platform.controlPlane, second])
      .flat()
      .map(async (each) => toAnswer(await each.handle(request()))),
  );

  const statuses = answers.map(({ status }) => status).toSorted();
  expect(statuses).toEqual([201, ...Array(9).fill(409)]);
  expect([onHost(), await underWay()]).toEqual([1, 0]);
});

test("a snapshot that the host fails leaves nothing", async () => {
  const id = await platform.create();
  platform.agent.faultAfter("createSnapshot", () => {
    throw new ConnectError("lost", Code.Internal);
  });

  const answer = await create({ sandbox_id: id, name: "ours" });

  expect(code(answer)).toEqual([502, "agent_error"]);
  expect([onHost(), await underWay(), await names("?type=snapshot")]).toEqual([0, 0, []]);
});

// The host may be at it still: removed at once, it would come to an end after that and stay.
test("a snapshot that the host did not answer in time is removed once it must be over", async () => {
  const id = await platform.create();
  platform.agent.faultAfter("createSnapshot", () => {
    throw new ConnectError("late", Code.DeadlineExceeded);
  });

  const answer = await create({ sandbox_id: id, name: "ours" });
  // Longer than a removal may take, and not as long as a snapshot.
  const aLittleLess = sql`${templateOperations.deadline} - interval '100 seconds'`;
  await platform.database.db.update(templateOperations).set({ deadline: aLittleLess });
  const early = await settle();
  const before = onHost();
  await platform.database.db.update(templateOperations).set({ deadline: sql`now()` });
  const late = await settle();

  expect([...code(answer), before]).toEqual([502, "agent_error", 1]);
  expect([early.claimed, late.settled]).toEqual([0, 1]);
  expect([onHost(), await underWay(), await names("?type=snapshot")]).toEqual([0, 0, []]);
});

test("a destroy during a snapshot wins, and leaves no template", async () => {
  const id = await platform.create();
  platform.agent.pauses.takesMs = LONG_MS;
  const making = create({ sandbox_id: id, name: "ours" });
  await waitFor("a call under way at the agent", () => platform.agent.underWay > 0);

  const destroyed = await platform.call("DELETE", `/v1/capsules/${id}`);
  const answer = await making;

  expect([destroyed.status, ...code(answer)]).toEqual([204, 409, "conflict"]);
  expect([onHost(), await underWay()]).toEqual([0, 0]);
});

test("a snapshot goes on when its client goes away", async () => {
  await using server = platform.controlPlane.listen();
  const id = await platform.create();
  platform.agent.pauses.takesMs = 100;
  const client = new AbortController();
  const making = fetch(new URL("/v1/snapshots", server.url), {
    method: "POST",
    headers: { "x-api-key": platform.team.apiKey, "content-type": "application/json" },
    body: JSON.stringify({ sandbox_id: id, name: "ours" }),
    signal: client.signal,
  }).catch(() => {});
  await waitFor("a call under way at the agent", () => platform.agent.underWay > 0);
  client.abort();
  await making;

  await waitFor("the template on record", () => names("?type=snapshot"), {
    holds: (all) => all.length === 1,
  });
});

test("a deleted snapshot is gone, also from its host, and what came from it goes on", async () => {
  const id = await platform.create();
  await create({ sandbox_id: id, name: "ours" });
  const started = await platform.create({ template: "ours" });

  const deleted = await remove("ours");
  const again = await remove("ours");
  const unstartable = await platform.call("POST", "/v1/capsules", { body: { template: "ours" } });
  await platform.call("POST", `/v1/capsules/${started}/pause`);
  const resumed = await platform.call("POST", `/v1/capsules/${started}/resume`);

  expect([deleted.status, again.status, unstartable.status, resumed.status]).toEqual([
    204, 404, 404, 200,
  ]);
  expect([onHost(), await underWay()]).toEqual([0, 0]);
  expect((await recorded()).at(-1)).toEqual(["template.snapshot.delete", "success", "ours"]);
});

test("a template of the platform or of another team is not the team's to delete", async () => {
  const other = await addTeam(platform.database);
  const id = await platform.create();
  await create({ sandbox_id: id, name: "ours" });

  const foreign = await platform.call("DELETE", "/v1/snapshots/ours", { team: other });
  const platforms = await remove("minimal-debian");

  expect([foreign, platforms].map(code)).toEqual([
    [404, "not_found"],
    [403, "forbidden"],
  ]);
});

test("files on a host that does not answer are removed when it does", async () => {
  const id = await platform.create();
  await create({ sandbox_id: id, name: "ours" });
  platform.agent.faultBefore("deleteSnapshot", () => {
    throw new ConnectError("away", Code.Unavailable);
  });

  const deleted = await remove("ours");
  const early = await settle();
  await platform.database.db.update(templateOperations).set({ deadline: sql`now()` });
  const late = await settle();

  expect(deleted.status).toBe(204);
  expect([early, late]).toEqual([
    { claimed: 0, settled: 0 },
    { claimed: 1, settled: 1 },
  ]);
  expect([onHost(), await underWay()]).toEqual([0, 0]);
});

test("capsules start from a snapshot where it lies, and nowhere else", async () => {
  const id = await platform.create();
  await create({ sandbox_id: id, name: "ours" });
  // Empty, so the better place for anything that may go there.
  const elsewhere = await addHost(platform.database, "127.0.0.1:1");

  const started = await platform.call("POST", "/v1/capsules", { body: { template: "ours" } });
  await platform.database.db
    .update(hosts)
    .set({ status: "draining" })
    .where(ne(hosts.id, elsewhere));
  const refused = await platform.call("POST", "/v1/capsules", { body: { template: "ours" } });
  await platform.database.db.delete(hosts).where(sql`id = ${elsewhere}`);
  await platform.database.db.update(hosts).set({ status: "online" });

  expect(started.status).toBe(201);
  expect(code(refused)).toEqual([503, "no_hosts_available"]);
  expect(refused.body.error.message).toBe('no host that has the template "ours" is online');
});

test("a snapshot whose control plane died is ended by another one, as its host does", async () => {
  await using dead = await Operations.open(platform.database.url);
  const id = await platform.create();
  const died = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSnapshot", () => died.promise);
  const making = create({ sandbox_id: id, name: "ours" });
  await waitFor("a call under way at the agent", () => platform.agent.underWay > 0);
  await platform.database.db.update(templateOperations).set({ operationId: dead.next() });
  await dead[Symbol.asyncDispose]();
  died.resolve();

  await waitFor("a pass that settles it", settle, { holds: ({ settled }) => settled === 1 });

  expect(await names("?type=snapshot")).toEqual(["ours"]);
  expect((await making).status).toBe(201);
  expect([onHost(), await underWay()]).toEqual([1, 0]);
  expect(await recorded()).toEqual([["template.snapshot.create", "success", "ours"]]);
});

test("a host that is still at it is waited for, and not for ever", async () => {
  await using dead = await Operations.open(platform.database.url);
  const id = await platform.create();
  const [row] = await platform.database.db.select().from(capsules);
  const abandoned = {
    templateId: crypto.randomUUID(),
    hostId: platform.hostId,
    kind: "create",
    operationId: dead.next(),
    deadline: new Date(Date.now() + 3_600_000),
    teamId: platform.team.id,
    name: "ours",
    capsuleId: row?.id ?? null,
    actor: { type: "system", id: "", name: "" },
  } as const;
  await dead[Symbol.asyncDispose]();
  await platform.database.db.insert(templateOperations).values(abandoned);
  platform.agent.faultBefore("createSnapshot", () => {
    throw new ConnectError("away", Code.Unavailable);
  });

  expect(await settle()).toEqual({ claimed: 1, settled: 0 });
  await platform.database.db
    .update(templateOperations)
    .set({ deadline: sql`now()`, createdAt: sql`now() - interval '1 hour'` });
  expect(await settle()).toEqual({ claimed: 1, settled: 1 });

  const [left] = await platform.database.db.select().from(templateOperations);
  expect([id === "", left?.kind, await names("?type=snapshot")]).toEqual([false, "delete", []]);
  expect(await recorded()).toEqual([["template.snapshot.create", "error", "ours"]]);
});
