// What administrators see of everybody's hosts, templates and events, and do with the platform's own capsules.

import { expect, setDefaultTimeout, test } from "bun:test";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";
import { ControlPlane } from "../../tests/harness/control-plane.ts";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import { addHost } from "../../tests/harness/simulated-agent-platform.ts";
import { StreamClient, textOf } from "../../tests/harness/stream-client.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";

setDefaultTimeout(60_000);

const platform = await forThisFile(AccountsPlatform.start());
const agent = await forThisFile(Promise.resolve(new SimulatedAgent()));
const lastHeartbeatAt = new Date(Date.now() + 3600_000);
await addHost(platform.database, agent.address, { lastHeartbeatAt });
const root = await platform.person("Root");
const grace = await platform.person("Grace");

const admin = (method: string, path: string, body?: unknown) =>
  platform.call(method, `/v1/admin${path}`, { token: root.token, body });
const asGrace = (method: string, path: string, body?: unknown) =>
  platform.call(method, `/v1${path}`, { token: grace.token, body });
const capsule = async (): Promise<string> => (await admin("POST", "/capsules", {})).body.id;
/** A template of the platform's. */
const template = async (): Promise<string> => {
  const name = `t-${crypto.randomUUID()}`;
  const made = await admin("POST", `/capsules/${await capsule()}/snapshot`, { name });
  if (made.status !== 201) throw new Error(JSON.stringify(made));
  return name;
};
const outcome = async (answer: ReturnType<typeof admin>): Promise<string> => {
  const { status, body } = await answer;
  return body.error === undefined ? `${status}` : `${status} ${body.error.code}`;
};
const rows = (list: unknown) => list as Record<string, unknown>[];
const names = (list: unknown) => (list as { name: string }[]).map(({ name }) => name);
const ids = (list: unknown) => (list as { id: string }[]).map(({ id }) => id);

test("the platform's capsules are its administrators', and nobody's team has them", async () => {
  const id = await capsule();
  const told = await admin("POST", `/capsules/${id}/exec`, { cmd: "echo", args: ["hello"] });
  await admin("POST", `/capsules/${id}/files/mkdir`, { path: "/tmp/made" });
  const listed = ids((await admin("GET", "/capsules")).body);
  const own = ids((await platform.call("GET", "/v1/capsules", { token: root.token })).body);
  const elsewhere = await outcome(asGrace("GET", `/capsules/${id}`));
  const refused = await outcome(asGrace("GET", `/admin/capsules/${id}`));
  const destroyed = await outcome(admin("DELETE", `/capsules/${id}`));

  expect(told.body).toMatchObject({ exit_code: 0, stdout: "hello\n" });
  expect([listed.includes(id), own.includes(id)]).toEqual([true, false]);
  expect([elsewhere, refused, destroyed]).toEqual(["404 not_found", "403 forbidden", "204"]);
  const log = (await admin("GET", "/audit-logs?resource_type=sandbox")).body.items;
  expect(log).toContainEqual(
    expect.objectContaining({ resource_id: id, action: "destroy", actor_name: root.email }),
  );
});

test("work on one that goes on is looked at where it was asked for", async () => {
  const { status, headers } = await platform.app.handle(
    new Request("http://localhost/v1/admin/capsules", {
      method: "POST",
      headers: { authorization: `Bearer ${root.token}`, prefer: "respond-async" },
      body: "{}",
    }),
  );
  const location = headers.get("location") ?? "";

  expect([status, location]).toEqual([202, expect.stringMatching(/^\/v1\/admin\/capsules\/cl-/)]);
  expect((await platform.call("GET", location, { token: root.token })).status).toBe(200);
});

test("a template of one of them is everybody's", async () => {
  const name = await template();

  const seen = rows((await asGrace("GET", "/snapshots")).body);
  const made = await asGrace("POST", "/capsules", { template: name });
  expect(seen).toContainEqual(expect.objectContaining({ name, platform: true, owned: false }));
  expect([made.status, made.body.template]).toEqual([201, name]);
});

test("no template of the platform takes a name that a team has", async () => {
  const { id } = (await asGrace("POST", "/capsules", {})).body;
  await asGrace("POST", "/snapshots", { sandbox_id: id, name: "graces" });
  const made = await template();

  expect([
    await outcome(admin("POST", `/capsules/${await capsule()}/snapshot`, { name: "graces" })),
    await outcome(admin("PATCH", `/templates/${made}`, { new_name: "graces" })),
    await outcome(admin("PATCH", `/templates/${made}`, { new_name: "minimal-debian" })),
    await outcome(admin("PATCH", `/templates/${made}`, { new_name: "minimal" })),
  ]).toEqual([...Array(3).fill("409 template_name_taken"), "409 name_reserved"]);
});

test("templates of the platform are renamed and deleted, but for those that come with it", async () => {
  const name = await template();
  const renamed = await outcome(admin("PATCH", `/templates/${name}`, { new_name: `${name}-2` }));
  const deleted = await outcome(admin("DELETE", `/templates/${name}-2`));

  expect([
    ...[renamed, deleted],
    await outcome(admin("DELETE", `/templates/${name}-2`)),
    await outcome(admin("PATCH", "/templates/minimal-debian", { new_name: "mine" })),
    await outcome(admin("DELETE", "/templates/minimal-debian")),
    // A team's own is not the platform's to change.
    await outcome(admin("DELETE", "/templates/graces")),
  ]).toEqual(["204", "204", "404 not_found", "403 forbidden", "403 forbidden", "404 not_found"]);
  expect(names((await asGrace("GET", "/snapshots")).body)).toContain("minimal-debian");
});

test("all teams' templates are listed, at once or a hundred a page", async () => {
  const name = await template();
  const all = (await admin("GET", "/templates")).body;
  const page = (await admin("GET", "/templates?page=1")).body;
  const beyond = (await admin("GET", "/templates?page=2")).body;

  expect(names(all)).toEqual(expect.arrayContaining([name, "graces", "minimal-debian"]));
  expect(all).toContainEqual(
    expect.objectContaining({ name: "minimal-debian", protected: true, team_slug: "wrenn" }),
  );
  expect(all).toContainEqual(
    expect.objectContaining({ name: "graces", protected: false, team_id: grace.teamId }),
  );
  expect(page.templates).toEqual(all);
  const total = names(all).length;
  expect(page).toMatchObject({ total, page: 1, per_page: 100, total_pages: 1 });
  expect(beyond).toMatchObject({ templates: [], total });
  expect(await outcome(admin("GET", "/templates?page=0"))).toBe("400 invalid_request");
});

test("all hosts are listed with what capsules hold of them", async () => {
  await using fresh = await AccountsPlatform.start();
  await using its = new SimulatedAgent();
  await addHost(fresh.database, its.address, { lastHeartbeatAt });
  await addHost(fresh.database, "127.0.0.1:1", { lastHeartbeatAt, status: "unreachable" });
  const { token } = await fresh.person();
  const size = { vcpus: 2, memory_mb: 256 };
  const made = [
    await fresh.call("POST", "/v1/capsules", { token, body: size }),
    await fresh.call("POST", "/v1/admin/capsules", { token, body: { vcpus: 1, memory_mb: 512 } }),
    await fresh.call("POST", "/v1/capsules", { token, body: size }),
  ].map(({ body }) => body.id);
  await fresh.call("POST", `/v1/capsules/${made[0]}/pause`, { token });
  await fresh.call("DELETE", `/v1/capsules/${made[2]}`, { token });

  const { body } = await fresh.call("GET", "/v1/admin/hosts", { token });
  const loads = rows(body).map((host) => ({
    ...{ status: host.status, vcpus: host.running_vcpus, memory: host.running_memory_mb },
    paused: host.paused_memory_mb,
  }));
  expect(loads.toSorted((a, b) => Number(b.vcpus) - Number(a.vcpus))).toEqual([
    { status: "online", vcpus: 1, memory: 512, paused: 256 },
    { status: "unreachable", vcpus: 0, memory: 0, paused: 0 },
  ]);
});

test("each change of what is the platform's leaves who made it and from where", async () => {
  const name = await template();
  const [id, paused, forked] = [await capsule(), await capsule(), await capsule()];
  await admin("POST", `/capsules/${paused}/pause`);
  const changes: readonly [string, string, unknown, string][] = [
    ["POST", "/capsules", {}, "sandbox create"],
    ["POST", `/capsules/${id}/pause`, undefined, "sandbox pause"],
    ["POST", `/capsules/${paused}/resume`, {}, "sandbox resume"],
    ["POST", `/capsules/${forked}/fork`, {}, "sandbox create"],
    ["POST", `/capsules/${forked}/snapshot`, { name: "made" }, "snapshot create"],
    ["DELETE", `/capsules/${forked}`, undefined, "sandbox destroy"],
    ["PATCH", `/templates/${name}`, { new_name: `${name}-2` }, "template rename"],
    ["DELETE", `/templates/${name}-2`, undefined, "snapshot delete"],
  ];
  const left: unknown[] = [];
  for (const [method, path, body] of changes) {
    const requestId = crypto.randomUUID();
    const headers = { "x-request-id": requestId };
    const asked = { token: root.token, headers, ...(body === undefined ? {} : { body }) };
    await platform.call(method, `/v1/admin${path}`, asked);
    const entries = await platform.database.sql<{ what: string; who: string }[]>`
      select resource_type || ' ' || action as what, actor_name as who from audit_logs
      where request_id = ${requestId} and team_id = ${PLATFORM_TEAM} and ip_address = 'unknown'`;
    left.push([
      path,
      entries.some(({ what }) => what === changes[left.length]?.[3]),
      entries[0]?.who,
    ]);
  }

  expect(left).toEqual(changes.map(([, path]) => [path, true, root.email]));
});

test("terminals, commands and events of the platform end with the right to administer it", async () => {
  await using database = await cloneDatabase();
  await using its = new SimulatedAgent();
  await addHost(database, its.address, { lastHeartbeatAt });
  await using program = await ControlPlane.start(database.url);
  const token = await program.person("root@example.com");
  const authorization = `Bearer ${token}`;
  const other = { authorization: `Bearer ${await program.person("grace@example.com")}` };
  const { body } = await program.post("/v1/admin/capsules", {}, { authorization });
  const path = `/v1/admin/capsules/${body.id}/exec/stream`;
  const events = await fetch(`${program.url}/v1/admin/events/stream`, {
    headers: { authorization },
  });
  const heard = textOfStream(events);

  await using byHeader = await StreamClient.open(program.url, path, { authorization });
  byHeader.send({ type: "start", cmd: "echo", args: ["hello"] });
  const messages = await byHeader.rest();
  await using byMessage = await StreamClient.open(program.url, path);
  byMessage.send({ type: "auth", token });
  byMessage.send({ type: "start", cmd: "sleep", args: ["600"] });
  await byMessage.next();
  const theirs = (await program.post("/v1/capsules", {}, other)).body;
  await waitFor("their capsule's events", () => heard.text.includes(`"${theirs.id}"`));
  await database.sql`update users set is_admin = false`;

  expect(textOf(messages, "stdout")).toBe("hello\n");
  await waitFor("the end of the events", () => heard.hasEnded);
  expect((await byMessage.rest()).at(-1)).toMatchObject({ type: "error", code: "forbidden" });
  expect(heard.text).toContain(`"team_id":"${theirs.team_id ?? "team-"}`);
});

function textOfStream(response: Response): { text: string; hasEnded: boolean } {
  const heard = { text: "", hasEnded: false };
  const read = async () => {
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) heard.text += decoder.decode(chunk);
    heard.hasEnded = true;
  };
  void read();
  return heard;
}
