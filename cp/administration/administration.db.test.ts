// What administrators of the platform see and change of everybody's accounts and teams.

import { expect, setDefaultTimeout, test } from "bun:test";
import { encodeId, type Id, newId } from "../../proto/ids.ts";
import { AccountsPlatform, PASSWORD, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import { addHost } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { settleOperations } from "../capsules/settle.ts";

setDefaultTimeout(60_000);

const platform = await forThisFile(AccountsPlatform.start());
const agent = await forThisFile(Promise.resolve(new SimulatedAgent()));
const { sql } = platform.database;
const lastHeartbeatAt = new Date(Date.now() + 3600_000);
await addHost(platform.database, agent.address, { lastHeartbeatAt });
const root = await platform.person("Root");

const outcome = async (answer: ReturnType<typeof platform.call>): Promise<string> => {
  const { status, body } = await answer;
  return body.error === undefined ? `${status}` : `${status} ${body.error.code}`;
};
const admin = (method: string, path: string, body?: unknown, token = root.token) =>
  platform.call(method, `/v1/admin${path}`, { token, body });
const idOf = async ({ token }: Person): Promise<string> =>
  String((await platform.call("GET", "/v1/me", { token })).body.user_id);
const login = ({ email }: Person) =>
  outcome(platform.call("POST", "/v1/auth/login", { body: { email, password: PASSWORD } }));

test("a disabled account loses its sessions, its keys and its teams' capsules, and comes back", async () => {
  const person = await platform.person("Grace");
  const { token } = person;
  const id = await idOf(person);
  const { key } = (await platform.call("POST", "/v1/api-keys", { token, body: {} })).body;
  await platform.call("POST", "/v1/capsules", { token, body: {} });
  const disabled = await outcome(admin("PUT", `/users/${id}/active`, { active: false }));
  const known = { headers: { "x-api-key": key } };
  const out = [
    await outcome(platform.call("GET", "/v1/me", { token })),
    await outcome(platform.call("GET", "/v1/capsules", known)),
    await login(person),
  ];
  await waitFor("no capsule of the team", async () => {
    await settleOperations(platform.capsuleDeps);
    return agent.capsules.size === 0;
  });
  const enabled = await outcome(admin("PUT", `/users/${id}/active`, { active: true }));

  expect([disabled, ...out, enabled, await login(person)]).toEqual([
    ...["204", "401 unauthorized", "401 unauthorized", "403 account_disabled"],
    ...["204", "200"],
  ]);
});

test("a disabled account takes away what is its own, and nothing of teams that it is in", async () => {
  const [owner, person] = [await platform.person("Owner"), await platform.person("Member")];
  const id = await idOf(person);
  const team = `/v1/teams/${owner.teamId}`;
  const add = { token: owner.token, body: { email: person.email } };
  await platform.call("POST", `${team}/members`, add);
  await platform.call("PATCH", `${team}/members/${id}`, { ...add, body: { role: "admin" } });
  const session = await platform.call("POST", "/v1/auth/switch-team", {
    ...{ token: person.token, body: { team_id: owner.teamId } },
  });
  const invite = { token: session.body.token, body: { email: "guest@example.com" } };
  const invited = await outcome(platform.call("POST", `${team}/invitations`, invite));
  await platform.call("POST", "/v1/capsules", { token: owner.token, body: {} });
  const [off, on] = [
    await outcome(admin("PUT", `/users/${id}/active`, { active: false })),
    await outcome(admin("PUT", `/users/${id}/active`, { active: true })),
  ];
  const capsules = await platform.call("GET", "/v1/capsules", { token: owner.token });
  const invitations = await platform.call("GET", `${team}/invitations`, { token: owner.token });

  expect([invited, off, on]).toEqual(["201", "204", "204"]);
  expect(Object.values(capsules.body)).toMatchObject([{ status: "running" }]);
  expect(Object.values(invitations.body)).toEqual([]);
});

test("an account that is deleted, or waits for its mail, is neither disabled nor an administrator", async () => {
  const [gone, email] = [await platform.person(), "waiting@example.com"];
  const id = await idOf(gone);
  await admin("PUT", `/users/${id}/admin`, { admin: true });
  const body = { confirmation: gone.email };
  await platform.call("DELETE", "/v1/me", { token: gone.token, body });
  await platform.signUp(email);
  const [row] = await sql<{ id: string }[]>`select id from users where email = ${email}`;
  const waiting = encodeId("user", (row?.id ?? "") as Id<"user">);

  expect([
    await outcome(admin("PUT", `/users/${id}/active`, { active: false })),
    await outcome(admin("PUT", `/users/${id}/admin`, { admin: true })),
    await outcome(admin("PUT", `/users/${waiting}/active`, { active: true })),
  ]).toEqual(["204", "404 not_found", "400 invalid_request"]);
  const rows = await sql`select status, is_admin, deleted_at is not null as told from users
    where email in (${gone.email}, ${email}) order by status`;
  expect<unknown>([...rows]).toEqual([
    { status: "deleted", is_admin: false, told: true },
    { status: "inactive", is_admin: false, told: false },
  ]);
});

test("a deleted account comes back while it is not forgotten, without its team", async () => {
  const person = await platform.person();
  const id = await idOf(person);
  const body = { confirmation: person.email };
  await platform.call("DELETE", "/v1/me", { token: person.token, body });
  const restored = await outcome(admin("PUT", `/users/${id}/active`, { active: true }));
  const answer = await platform.call("POST", "/v1/auth/login", {
    body: { email: person.email, password: PASSWORD },
  });

  expect([restored, answer.status]).toEqual(["204", 200]);
  expect(answer.body.team_id).not.toBe(person.teamId);
});

test("nobody disables themselves, nor takes the last administrator away", async () => {
  const [rootId, other] = [await idOf(root), await platform.person()];
  const otherId = await idOf(other);
  const setAdmin = (id: string, value: boolean, token = root.token) =>
    outcome(admin("PUT", `/users/${id}/admin`, { admin: value }, token));
  const first = [
    await outcome(admin("PUT", `/users/${rootId}/active`, { active: false })),
    await setAdmin(rootId, false),
    await setAdmin(otherId, true),
    await setAdmin(otherId, true),
  ];
  // Each alone might: one of them stays.
  const both = await Promise.all([
    setAdmin(rootId, false, other.token),
    setAdmin(otherId, false, root.token),
  ]);
  const [row] = await sql<
    { left: number }[]
  >`select count(*)::int as left from users where is_admin`;
  await sql`update users set is_admin = (email = ${root.email})`;

  expect(first).toEqual(["400 invalid_request", "400 invalid_request", "204", "204"]);
  expect(both.filter((one) => one === "204")).toHaveLength(1);
  expect(row?.left).toBe(1);
});

test("accounts and teams come in pages of a hundred", async () => {
  const person = await platform.person("Listed");
  await platform.call("POST", "/v1/capsules", { token: person.token, body: {} });
  await sql`insert into users (id, email, status, created_at)
    select gen_random_uuid(), n || '@pages.test', 'active', now() + n * interval '1 second'
    from generate_series(1, 100) as n`;
  const [users, rest] = [await admin("GET", "/users"), await admin("GET", "/users?page=2")];
  const [counted] = await sql<{ users: number }[]>`select count(*)::int as users from users`;
  const total = counted?.users ?? 0;
  const all = [users, rest].flatMap(({ body }) => body.users as { email: string }[]);

  expect(users.body).toMatchObject({ total, page: 1, per_page: 100, total_pages: 2 });
  expect(new Set(all.map(({ email }) => email)).size).toBe(total);
  expect(all.find(({ email }) => email === person.email)).toMatchObject({
    ...{ name: "Listed", is_admin: false, status: "active", teams_joined: 1, teams_owned: 1 },
  });
  const teams = (await admin("GET", "/teams")).body.teams as Record<string, unknown>[];
  expect(teams.find(({ id }) => id === person.teamId)).toMatchObject({
    ...{ name: "Listed's Team", is_byoc: false, deleted_at: null, member_count: 1 },
    ...{ owner_name: "Listed", owner_email: person.email, active_sandbox_count: 1 },
    ...{ channel_count: 0, running_vcpus: 1, running_memory_mb: 512 },
  });
  expect(teams.some(({ name }) => name === "Platform")).toBe(false);
  const refused = ["/users?page=0", "/teams?page=x", "/audit-logs?limit=0"];
  expect(await Promise.all(refused.map((path) => outcome(admin("GET", path))))).toEqual(
    Array(3).fill("400 invalid_request"),
  );
});

test("a team may bring its own hosts, and no more; one that is deleted is listed last", async () => {
  const person = await platform.person("Byoc");
  const path = `/teams/${person.teamId}`;
  const isByoc = async () => {
    const { body } = await platform.call("GET", "/v1/teams", { token: person.token });
    return (Object.values(body) as { is_byoc: boolean }[])[0]?.is_byoc;
  };
  const on = await outcome(admin("PUT", `${path}/byoc`, { enabled: true }));
  const between = await isByoc();
  const off = await outcome(admin("PUT", `${path}/byoc`, { byoc: false }));
  const after = await isByoc();
  const gone = await outcome(admin("DELETE", path));
  const again = await outcome(admin("DELETE", path));
  const own = await outcome(admin("DELETE", `/teams/team-${"0".repeat(25)}`));

  expect([on, between, off, after]).toEqual(["204", true, "204", false]);
  expect([gone, again, own]).toEqual(["204", "404 not_found", "404 not_found"]);
  const listed = (await admin("GET", "/teams")).body.teams as Record<string, unknown>[];
  const deleted = listed.findIndex(({ id }) => id === person.teamId);
  expect(listed.slice(deleted).every(({ deleted_at }) => deleted_at !== null)).toBe(true);
});

test("a team is given limits of its own, and those of the settings again", async () => {
  const { token, teamId } = await platform.person();
  const path = `/teams/${teamId}/limits`;
  await admin("PATCH", path, { capsules: 1, disk_mb: 0 });
  await admin("PATCH", path, { vcpus: 4 });
  const given = (await admin("GET", path)).body;
  const create = () => outcome(platform.call("POST", "/v1/capsules", { token, body: {} }));
  const creates = [await create(), await create()];
  const back = (await admin("PATCH", path, { capsules: null, vcpus: null })).body;

  expect(given).toMatchObject({ own: { capsules: 1, disk_mb: 0, vcpus: 4 }, limits: { vcpus: 4 } });
  expect(creates).toEqual(["201", "402 concurrent_sandbox_limit"]);
  expect(back).toMatchObject({ limits: { capsules: 0, vcpus: 0 }, usage: { capsules: 1 } });
  expect(back.own).toEqual({ disk_mb: 0 });
  expect((await admin("GET", "/audit-logs?resource_type=team&limit=1")).body.items).toMatchObject([
    {
      ...{ actor_name: root.email, action: "set_limits", resource_id: teamId },
      metadata: { capsules: "null", vcpus: "null" },
    },
  ]);
});

test("what there is not is not found", async () => {
  const user = `/users/${encodeId("user", newId("user"))}`;
  const team = `/teams/${encodeId("team", newId("team"))}`;

  expect([
    await outcome(admin("PUT", `${user}/active`, { active: false })),
    await outcome(admin("PUT", `${user}/admin`, { admin: true })),
    await outcome(admin("PUT", `${team}/byoc`, { enabled: true })),
    await outcome(admin("GET", `${team}/limits`)),
    await outcome(admin("PATCH", `${team}/limits`, { capsules: 1 })),
  ]).toEqual(Array(5).fill("404 not_found"));
});

test("the platform's log tells what was done to accounts", async () => {
  const person = await platform.person();
  await admin("PUT", `/users/${await idOf(person)}/active`, { active: false });
  const { body } = await admin("GET", "/audit-logs?resource_type=user&limit=1");

  expect<unknown>(body).toMatchObject({
    items: [
      {
        ...{ actor_name: root.email, action: "deactivate", resource_type: "user" },
        ...{ scope: "admin", status: "warning", metadata: { email: person.email } },
      },
    ],
    next_before: expect.any(String),
    next_before_id: expect.stringMatching(/^log-/),
  });
});
