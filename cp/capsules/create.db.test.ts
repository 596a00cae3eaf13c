import { afterEach, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { eq } from "drizzle-orm";
import { decodeId, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TEMPLATE_ROW } from "../../tests/harness/rows.ts";
import { addHost, addTeam, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, events, hosts, templateHosts, templates } from "../db/tables.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { Capsules } from "./service.ts";

const platform = await forThisFile(TestPlatform.start());

afterEach(async () => {
  const { body } = await platform.call("GET", "/v1/capsules");
  const ids = Object.values(body).map((capsule) => (capsule as { id: string }).id);
  await Promise.all(ids.map((id) => platform.call("DELETE", `/v1/capsules/${id}`)));
  expect(platform.agent.capsules.size).toBe(0);
});

function create(body: unknown, headers: Record<string, string> = {}) {
  return platform.call("POST", "/v1/capsules", { body, headers });
}

test("a capsule is created running, runs a command, and is destroyed", async () => {
  const created = await create({});
  const path = `/v1/capsules/${created.body.id}`;
  const got = await platform.call("GET", path);
  const listed = await platform.call("GET", "/v1/capsules");
  const exec = await platform.call("POST", `${path}/exec`, {
    body: { cmd: "/bin/sh", args: ["-c", "echo hello"] },
  });
  const destroyed = await platform.call("DELETE", path);
  const after = await platform.call("GET", path);

  expect(created).toMatchObject({
    status: 201,
    body: { status: "running", template: "minimal-debian", vcpus: 1, memory_mb: 512 },
  });
  expect<unknown>(got).toEqual({ status: 200, body: created.body });
  expect<unknown>(listed).toEqual({ status: 200, body: [created.body] });
  expect(exec).toMatchObject({ status: 200, body: { stdout: "hello\n", exit_code: 0 } });
  expect<unknown>(destroyed).toEqual({ status: 204, body: "" });
  expect(after).toMatchObject({ status: 200, body: { status: "stopped" } });
  expect(platform.agent.capsules.size).toBe(0);
});

test("a create that names volumes is told that there are none yet", async () => {
  const named = await create({ volume_ids: ["vl-data"] });
  const none = await create({ volume_ids: [] });

  expect([named.status, named.body.error]).toMatchObject([
    501,
    { code: "not_implemented", reason: "not_implemented", retryable: false },
  ]);
  expect(none.status).toBe(201);
});

test("the answer has exactly the fields of the API, times to the second, and no empty ones", async () => {
  const { body } = await create({ vcpus: 2, memory_mb: 1024, timeout_sec: 60 });
  const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);

  expect<unknown>(body).toEqual({
    id: expect.stringMatching(/^cl-[0-9a-z]{25}$/),
    status: "running",
    template: "minimal-debian",
    vcpus: 2,
    memory_mb: 1024,
    timeout_sec: 60,
    disk_size_mb: 5120,
    host_ip: expect.stringMatching(/^10\.11\.0\.\d+$/),
    created_at: time,
    started_at: time,
    last_active_at: time,
    last_updated: time,
    metadata: {
      kernel_version: "6.1.0",
      vmm: "simulated",
      vmm_version: "1.0.0",
      agent_version: "0.1.0",
      envd_version: "0.6.13",
    },
  });
});

test("the agent is told what the capsule is, and a token that only it has", async () => {
  const first = await platform.create({ vcpus: 2 });
  const second = await platform.create();

  const [a, b] = [first, second].map((id) => platform.agent.capsules.get(id)?.request);
  expect(a).toMatchObject({
    vcpus: 2,
    memoryMb: 512,
    diskSizeMb: 5120,
    teamId: platform.team.id,
    templateId: "00000000-0000-0000-0000-000000000004",
    templateTeamId: "00000000-0000-0000-0000-000000000000",
    defaultUser: "wrenn-user",
  });
  expect(a?.envdAccessToken).toMatch(/^[0-9a-f]{64}$/);
  expect(a?.envdAccessToken).not.toBe(b?.envdAccessToken);
});

test("zero and less mean the defaults, and minimal the default template", async () => {
  const { body } = await create({ template: "minimal", vcpus: 0, memory_mb: -1 });

  expect(body).toMatchObject({ template: "minimal-debian", vcpus: 1, memory_mb: 512 });
});

test.each([
  [{ template: "../etc" }, "template"],
  [{ template: "" }, "template"],
  [{ vcpus: 33 }, "vcpus"],
  [{ vcpus: 1.5 }, "vcpus"],
  [{ vcpus: "2" }, "vcpus"],
  [{ memory_mb: 127 }, "memory_mb"],
  [{ memory_mb: 65_537 }, "memory_mb"],
  [{ timeout_sec: -1 }, "timeout_sec"],
  [{ timeout_sec: 31_536_001 }, "timeout_sec"],
])("a bad field is refused by name (%#)", async (body, field) => {
  const answer = await create(body);

  expect(answer).toMatchObject({ status: 400, body: { error: { code: "invalid_request" } } });
  expect(answer.body.error.message).toStartWith(`${field}: `);
});

test("what a create leaves out is as the settings say", async () => {
  const defaults = { template: "minimal-alpine", vcpus: 3, memoryMb: 1024 };
  await using service = new Capsules({ ...platform.controlPlane.deps, defaults });
  const actor = { type: "api_key", id: newId("apiKey"), name: "tests" } as const;
  const caller = { teamId: platform.team.id, actor };

  const asked = { timeoutSec: 0, privatePorts: false, labels: {} };
  const { done } = await service.create(caller, asked);

  expect(await done).toMatchObject({ template: "minimal-alpine", vcpus: 3, memoryMb: 1024 });
});

test("what its owner says of a capsule stays with it and its forks, and finds it", async () => {
  const metadata = { app: "web", "tier.a_b-c": "frei & ümlaut = 1" };
  const { body: made } = await create({ metadata });
  await create({ metadata: { app: "web" } });
  await create({});
  const listed = async (labels: Record<string, string>) => {
    const query = new URLSearchParams({ metadata: new URLSearchParams(labels).toString() });
    const { body } = await platform.call("GET", `/v1/capsules?${query}`);
    const found = Object.values(body) as { metadata: Record<string, string> }[];
    return found.map((capsule) => capsule.metadata.app);
  };

  const fork = await platform.call("POST", `/v1/capsules/${made.id}/fork`);

  expect(made).toMatchObject({ metadata: { ...metadata, vmm: "simulated" } });
  expect<unknown>(fork.body).toMatchObject([{ capsule: { metadata } }]);
  expect(await listed({ app: "web" })).toHaveLength(3);
  expect(await listed(metadata)).toEqual(["web", "web"]);
  expect(await listed({ app: "no" })).toEqual([]);
  expect(await listed({})).toHaveLength(4);
  expect((await platform.call("GET", "/v1/capsules?metadata=vmm%3Da")).status).toBe(400);
  expect((await platform.call("GET", "/v1/capsules?metadata=%2500%3Da")).status).toBe(400);
});

test.each([
  [{ vmm_version: "1" }],
  [{ resumed_from: "memory" }],
  [{ ".a": "1" }],
  [{ a: "1".repeat(65) }],
  [{ ["a".repeat(65)]: "1" }],
  [{ a: "\u0000" }],
  [{ a: 1 }],
  [Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`a${i}`, ""]))],
])("metadata like %j is refused", async (metadata) => {
  const answer = await create({ metadata });

  expect([answer.status, answer.body.error.code]).toEqual([400, "invalid_request"]);
  expect(answer.body.error.message).toMatch(/^metadata\b/);
});

test("an unknown template is not found", async () => {
  expect(await create({ template: "no-such" })).toMatchObject({
    status: 404,
    body: { error: { code: "not_found", message: 'template "no-such" not found' } },
  });
});

test("a team finds its own templates, and nobody else's", async () => {
  const other = await addTeam(platform.database);
  const template = { ...TEMPLATE_ROW, name: "ours", teamId: platform.team.id };
  await platform.database.db.insert(templates).values(template);

  const options = { body: { template: "ours" } };
  const own = await platform.call("POST", "/v1/capsules", options);
  const foreign = await platform.call("POST", "/v1/capsules", { ...options, team: other });

  expect([own.status, foreign.status]).toEqual([201, 404]);
});

test("a template that holds memory fixes the size, and the hosts that can start it", async () => {
  const columns = { name: "frozen", teamId: PLATFORM_TEAM, type: "snapshot" } as const;
  const [template] = await platform.database.db
    .insert(templates)
    .values({ ...TEMPLATE_ROW, ...columns, vcpus: 3, memoryMb: 768 })
    .returning();
  const frozen = { template: "frozen", vcpus: 8, memory_mb: 128 };

  const nowhere = await create(frozen);
  const held = { templateId: template?.id ?? "", hostId: platform.hostId };
  await platform.database.db.insert(templateHosts).values(held);
  const { body } = await create(frozen);

  expect(nowhere.status).toBe(503);
  expect(nowhere.body.error.message).toBe('no host that has the template "frozen" is online');
  expect(body).toMatchObject({ vcpus: 3, memory_mb: 768 });
});

test("another team sees, uses and destroys none of it", async () => {
  const other = await addTeam(platform.database);
  const id = await platform.create();
  const path = `/v1/capsules/${id}`;
  const calls: [string, string, unknown?][] = [
    ["GET", path],
    ["DELETE", path],
    ["POST", `${path}/ping`],
    ["POST", `${path}/exec`, { cmd: "true" }],
    ["GET", `${path}/processes`],
    ["DELETE", `${path}/processes/1`],
    ["POST", `${path}/files/read`, { path: "/etc/passwd" }],
    ["POST", `${path}/files/list`, { path: "/" }],
    ["POST", `${path}/files/mkdir`, { path: "/x" }],
    ["POST", `${path}/files/remove`, { path: "/x" }],
  ];

  const answers = await Promise.all(
    calls.map(([method, at, body]) => platform.call(method, at, { body, team: other })),
  );

  expect(answers.map(({ status, body }) => [status, body.error.code])).toEqual(
    calls.map(() => [404, "not_found"]),
  );
  expect<unknown>((await platform.call("GET", "/v1/capsules", { team: other })).body).toEqual([]);
  expect(platform.agent.capsules.get(id)?.status).toBe("running");
});

test("a malformed id is the client's mistake, an unknown one is not found", async () => {
  const malformed = await platform.call("GET", "/v1/capsules/cl-zzzzzzzzzzzzzzzzzzzzzzzzz");
  const unknown = await platform.call("GET", `/v1/capsules/cl-${"0".repeat(25)}`);

  expect([malformed.status, malformed.body.error.code]).toEqual([400, "invalid_request"]);
  expect([unknown.status, unknown.body.error.code]).toEqual([404, "not_found"]);
});

test("a create that the host fails leaves the reason on record and nothing on the host", async () => {
  platform.agent.faultAfter("createSandbox", () => {
    throw new ConnectError("disk image at /var/lib/secret is broken", Code.Internal);
  });

  const answer = await create({});

  expect<unknown>(answer).toMatchObject({
    status: 502,
    body: { error: { code: "agent_error", message: "The host failed to do this" } },
  });
  expect(platform.agent.capsules.size).toBe(0);
  expect(await lastCapsule()).toMatchObject({
    status: "error",
    reason: "The host failed to do this",
  });
});

test("a host that does not answer a create is no available host", async () => {
  await using platform = await TestPlatform.start();
  await platform.agent.crash();

  const answer = await platform.call("POST", "/v1/capsules", { body: {} });

  expect([answer.status, answer.body.error.code]).toEqual([503, "no_hosts_available"]);
  expect(await platform.states()).toEqual({ error: 1 });
});

test.each([
  ["none is online", { status: "unreachable" as const }],
  ["none was heard of lately", { lastHeartbeatAt: new Date(Date.now() - 91_000) }],
  ["none has the memory", { memoryMb: 600 }],
  ["none has the disk", { diskGb: 6 }],
  ["the only one belongs to a team", { type: "byoc" as const }],
])("no host is available when %s", async (_why, columns) => {
  await using platform = await TestPlatform.start();
  await platform.database.db.update(hosts).set(columns);

  const answer = await platform.call("POST", "/v1/capsules", { body: {} });

  expect([answer.status, answer.body.error.code]).toEqual([503, "no_hosts_available"]);
  expect(await platform.states()).toEqual({});
});

test("a team with its own hosts gets those and no others", async () => {
  await using platform = await TestPlatform.start();
  const team = await addTeam(platform.database, true);
  const before = await platform.call("POST", "/v1/capsules", { body: {}, team });
  const own = { type: "byoc" as const, teamId: team.id };
  const hostId = await addHost(platform.database, platform.agent.address, own);

  const { body } = await platform.call("POST", "/v1/capsules", { body: {}, team });

  const id = decodeId("capsule", body.id) ?? newId("capsule");
  const [row] = await platform.database.db.select().from(capsules).where(eq(capsules.id, id));
  expect([before.status, row?.hostId]).toEqual([503, hostId]);
});

test("fifty creates at once never promise more than the host has", async () => {
  await using platform = await TestPlatform.start();
  // Ten capsules of 512 MiB beside the quarter that the host keeps for itself.
  await platform.database.db.update(hosts).set({ memoryMb: 7000 });

  const answers = await Promise.all(
    Array.from({ length: 50 }, () => platform.call("POST", "/v1/capsules", { body: {} })),
  );

  const counts = Object.groupBy(answers, ({ status }) => String(status));
  expect([counts["201"]?.length, counts["503"]?.length]).toEqual([10, 40]);
  expect(platform.agent.capsules.size).toBe(10);
  expect(await platform.states()).toEqual({ running: 10 });
});

test("capsules are spread over hosts by load", async () => {
  await using platform = await TestPlatform.start();
  await addHost(platform.database, platform.agent.address);

  for (let count = 0; count < 6; count++) await platform.create();

  const rows = await platform.database.db.select({ hostId: capsules.hostId }).from(capsules);
  const perHost = Object.values(Object.groupBy(rows, ({ hostId }) => hostId));
  expect(perHost.map((group) => group?.length)).toEqual([3, 3]);
});

test("a create goes on when its client goes away", async () => {
  platform.agent.bootMs = 100;
  using server = platform.controlPlane.listen();
  const client = new AbortController();
  const request = fetch(new URL("/v1/capsules", server.url), {
    method: "POST",
    headers: { "x-api-key": platform.team.apiKey },
    body: "{}",
    signal: client.signal,
  }).catch(() => "gone");
  await waitFor("the capsule on the host", () => platform.agent.capsules.size, {
    holds: (count) => count === 1,
  });

  client.abort();
  const outcome = await request;

  expect(outcome).toBe("gone");
  await waitFor("the capsule to run", async () => (await lastCapsule())?.status, {
    holds: (status) => status === "running",
  });
  platform.agent.bootMs = 0;
});

test("a create whose host fell silent for the monitor runs when the host answers", async () => {
  const held = Promise.withResolvers<void>();
  platform.agent.faultAfter("createSandbox", () => held.promise);
  const creating = platform.call("POST", "/v1/capsules", { body: {} });
  await waitFor("the capsule on the host", () => platform.agent.capsules.size, {
    holds: (count) => count === 1,
  });
  await platform.database.db.update(capsules).set({ status: "missing" });
  held.resolve();

  expect(await creating).toMatchObject({ status: 201, body: { status: "running" } });
});

test("every move of a capsule has its event, with who did it", async () => {
  const id = await platform.create();
  await platform.call("DELETE", `/v1/capsules/${id}`);

  const rows = await platform.database.db.select().from(events).orderBy(events.id);
  const own = rows.filter(({ resource }) => resource.id === id);
  expect(
    own.map(({ type, outcome, metadata }) => [type, outcome, metadata.from, metadata.to]),
  ).toEqual([
    ["capsule.state.changed", "", undefined, "pending"],
    ["capsule.state.changed", "", "pending", "starting"],
    ["capsule.create", "success", "starting", "running"],
    ["capsule.state.changed", "", "running", "stopping"],
    ["capsule.destroy", "success", "stopping", "stopped"],
  ]);
  expect(own.every(({ actor }) => actor.type === "api_key" && actor.id.startsWith("key-"))).toBe(
    true,
  );
  expect(own.every(({ publishedAt, teamId }) => !publishedAt && teamId === platform.team.id)).toBe(
    true,
  );
});

async function lastCapsule() {
  const rows = await platform.database.db.select().from(capsules).orderBy(capsules.createdAt);
  return rows.at(-1);
}
