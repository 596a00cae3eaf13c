// Every route that changes something, asked once with success: each leaves who did what from where, and a route that
// is neither here nor among those with a reason fails.

import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { makeKeyAndRequest } from "../../proto/certificates/key-and-request.ts";
import { AccountsPlatform, PASSWORD, type Person } from "../../tests/harness/accounts-platform.ts";
import { type Change, changesOfChannels } from "../../tests/harness/changes-of-channels.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import { addHost } from "../../tests/harness/simulated-agent-platform.ts";

setDefaultTimeout(120_000);

/** What is no change of what the platform keeps. */
const EXEMPT: Readonly<Record<string, string>> = {
  "POST /v1/me/password/reset": "nothing but a mail, and nobody is known to have asked",
  "POST /v1/hosts/auth/refresh": "an agent renews what it has, every few days",
  "POST /v1/hosts/:id/heartbeat": "an agent lives",
  "POST /v1/capsules/:id/ping": "a use",
  "POST /v1/capsules/:id/exec": "within the capsule",
  "DELETE /v1/capsules/:id/processes/:selector": "within the capsule",
  "POST /v1/capsules/:id/files/write": "within the capsule",
  "POST /v1/capsules/:id/files/read": "a read",
  "POST /v1/capsules/:id/files/list": "a read",
  "POST /v1/capsules/:id/files/mkdir": "within the capsule",
  "POST /v1/capsules/:id/files/remove": "within the capsule",
  "POST /v1/capsules/:id/files/stream/read": "a read",
  "POST /v1/capsules/:id/files/stream/write": "within the capsule",
  "POST /v1/channels/test": "nothing but a message",
  "POST /v1/volumes": "answers 501",
  "DELETE /v1/volumes/:name": "answers 501",
};

const platform = await forThisFile(AccountsPlatform.start());
const agent = await forThisFile(Promise.resolve(new SimulatedAgent()));
let owner: Person;

beforeAll(async () => {
  const lastHeartbeatAt = new Date(Date.now() + 3600_000);
  await addHost(platform.database, agent.address, { lastHeartbeatAt });
  owner = await platform.person("Owner");
});

const call = async (method: string, path: string, body?: unknown, token = owner.token) => {
  const answer = await platform.call(method, path, { token, body });
  if (answer.status >= 400) throw new Error(`${method} ${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
};
const capsule = async (): Promise<string> => (await call("POST", "/v1/capsules", {})).id;
const team = async (): Promise<string> => (await platform.person()).teamId;
const template = async (): Promise<string> => {
  const name = `t-${crypto.randomUUID()}`;
  await call("POST", "/v1/snapshots", { sandbox_id: await capsule(), name });
  return name;
};
const member = async (): Promise<Person & { userId: string }> => {
  const person = await platform.person();
  const added = await call("POST", `/v1/teams/${owner.teamId}/members`, { email: person.email });
  const path = "/v1/auth/switch-team";
  const { token } = await call("POST", path, { team_id: owner.teamId }, person.token);
  return { ...person, token, teamId: owner.teamId, userId: String(added.user_id) };
};
const invited = async (email: string): Promise<string> => {
  await call("POST", `/v1/teams/${owner.teamId}/invitations`, { email, role: "member" });
  const mail = (await platform.mailsTo(email)).at(-1) ?? "";
  return /token=([0-9a-f]+)/.exec(mail)?.[1] ?? "";
};
const sessionOf = async ({ token }: Person): Promise<string> => {
  const { sessions } = await call("GET", "/v1/me/sessions", undefined, token);
  return (sessions as { id: string }[])[0]?.id ?? "";
};

const CHANGES: Readonly<Record<string, Change>> = {
  "POST /v1/auth/signup": {
    ...{ resource: "user", action: "sign_up" },
    ask: () => ({
      path: "/v1/auth/signup",
      body: { email: "new@example.com", password: PASSWORD, name: "New" },
      token: null,
    }),
  },
  "POST /v1/auth/activate": {
    ...{ resource: "user", action: "sign_up_confirm" },
    ask: async () => ({
      path: "/v1/auth/activate",
      body: { token: await platform.signUp("other@example.com") },
      token: null,
    }),
  },
  "POST /v1/auth/login": {
    ...{ resource: "user", action: "login" },
    ask: () => ({
      path: "/v1/auth/login",
      body: { email: owner.email, password: PASSWORD },
      token: null,
    }),
  },
  "POST /v1/auth/switch-team": {
    ...{ resource: "user", action: "switch_team" },
    ask: async () => {
      const { token, teamId } = await platform.person();
      return { path: "/v1/auth/switch-team", body: { team_id: teamId }, token };
    },
  },
  "POST /v1/auth/logout": {
    ...{ resource: "user", action: "logout" },
    ask: async () => ({ path: "/v1/auth/logout", token: (await platform.person()).token }),
  },
  "POST /v1/auth/logout-all": {
    ...{ resource: "user", action: "logout_all" },
    ask: async () => ({ path: "/v1/auth/logout-all", token: (await platform.person()).token }),
  },
  "DELETE /v1/me/sessions/:id": {
    ...{ resource: "user", action: "session_end" },
    ask: async () => {
      const person = await platform.person();
      const old = await sessionOf(person);
      const body = { email: person.email, password: PASSWORD };
      const { token } = await call("POST", "/v1/auth/login", body);
      return { path: `/v1/me/sessions/${old}`, token };
    },
  },
  "PATCH /v1/me": {
    ...{ resource: "user", action: "rename" },
    ask: () => ({ path: "/v1/me", body: { name: "Renamed" } }),
  },
  "POST /v1/me/password": {
    ...{ resource: "user", action: "password_changed" },
    ask: async () => ({
      path: "/v1/me/password",
      body: { current_password: PASSWORD, new_password: "another password" },
      token: (await platform.person()).token,
    }),
  },
  "POST /v1/me/password/reset/confirm": {
    ...{ resource: "user", action: "password_reset" },
    ask: async () => {
      const { email } = await platform.person();
      await call("POST", "/v1/me/password/reset", { email });
      await platform.passwords[Symbol.asyncDispose]();
      const body = { token: await platform.mailedToken(email), new_password: "another password" };
      return { path: "/v1/me/password/reset/confirm", body, token: null };
    },
  },
  "POST /v1/teams": {
    ...{ resource: "team", action: "create" },
    ask: () => ({ path: "/v1/teams", body: { name: "Second" } }),
  },
  "PATCH /v1/teams/:id": {
    ...{ resource: "team", action: "rename" },
    ask: () => ({ path: `/v1/teams/${owner.teamId}`, body: { name: "Renamed" } }),
  },
  "PATCH /v1/teams/:id/slug": {
    ...{ resource: "team", action: "slug_change" },
    ask: () => ({ path: `/v1/teams/${owner.teamId}/slug`, body: { slug: "of-owners" } }),
  },
  "POST /v1/teams/:id/members": {
    ...{ resource: "member", action: "add" },
    ask: async () => {
      const { email } = await platform.person();
      return { path: `/v1/teams/${owner.teamId}/members`, body: { email } };
    },
  },
  "PATCH /v1/teams/:id/members/:uid": {
    ...{ resource: "member", action: "role_update" },
    ask: async () => {
      const { userId } = await member();
      return { path: `/v1/teams/${owner.teamId}/members/${userId}`, body: { role: "admin" } };
    },
  },
  "DELETE /v1/teams/:id/members/:uid": {
    ...{ resource: "member", action: "remove" },
    ask: async () => {
      const { userId } = await member();
      return { path: `/v1/teams/${owner.teamId}/members/${userId}` };
    },
  },
  "POST /v1/teams/:id/leave": {
    ...{ resource: "member", action: "leave" },
    ask: async () => {
      const { token } = await member();
      return { path: `/v1/teams/${owner.teamId}/leave`, token };
    },
  },
  "POST /v1/teams/:id/transfer": {
    ...{ resource: "member", action: "transfer" },
    ask: async () => {
      const { teamId, token } = await platform.person();
      const heir = await platform.person();
      const path = `/v1/teams/${teamId}`;
      const added = await call("POST", `${path}/members`, { email: heir.email }, token);
      return { path: `${path}/transfer`, body: { user_id: added.user_id }, token };
    },
  },
  "DELETE /v1/teams/:id": {
    ...{ resource: "team", action: "delete" },
    ask: async () => {
      const { teamId, token } = await platform.person();
      return { path: `/v1/teams/${teamId}`, token };
    },
  },
  "DELETE /v1/me": {
    ...{ resource: "user", action: "delete" },
    ask: async () => {
      const { email, token } = await platform.person();
      return { path: "/v1/me", body: { confirmation: email }, token };
    },
  },
  "PUT /v1/admin/users/:id/active": {
    ...{ resource: "user", action: "deactivate" },
    ask: async () => {
      const { userId } = await member();
      return { path: `/v1/admin/users/${userId}/active`, body: { active: false } };
    },
  },
  "PUT /v1/admin/users/:id/admin": {
    ...{ resource: "user", action: "grant_admin" },
    ask: async () => {
      const { userId } = await member();
      return { path: `/v1/admin/users/${userId}/admin`, body: { admin: true } };
    },
  },
  "PUT /v1/admin/teams/:id/byoc": {
    ...{ resource: "team", action: "set_byoc" },
    // Whose own hosts are the only ones that it has from then on.
    ask: async () => ({ path: `/v1/admin/teams/${await team()}/byoc`, body: { enabled: true } }),
  },
  "PATCH /v1/admin/teams/:id/limits": {
    ...{ resource: "team", action: "set_limits" },
    ask: async () => ({ path: `/v1/admin/teams/${await team()}/limits`, body: { capsules: 5 } }),
  },
  "DELETE /v1/admin/teams/:id": {
    ...{ resource: "team", action: "delete" },
    ask: async () => ({ path: `/v1/admin/teams/${await team()}` }),
  },
  "POST /v1/teams/:id/invitations": {
    ...{ resource: "invitation", action: "create" },
    ask: () => ({
      path: `/v1/teams/${owner.teamId}/invitations`,
      body: { email: "invited@example.com", role: "member" },
    }),
  },
  "DELETE /v1/teams/:id/invitations/:iid": {
    ...{ resource: "invitation", action: "revoke" },
    ask: async () => {
      const path = `/v1/teams/${owner.teamId}/invitations`;
      const { id } = await call("POST", path, { email: "revoked@example.com", role: "member" });
      return { path: `${path}/${id}` };
    },
  },
  "POST /v1/invitations/accept": {
    ...{ resource: "member", action: "join" },
    ask: async () => {
      const { email, token } = await platform.person();
      return { path: "/v1/invitations/accept", body: { token: await invited(email) }, token };
    },
  },
  "POST /v1/auth/signup/invited": {
    ...{ resource: "user", action: "sign_up" },
    ask: async () => {
      const token = await invited("joining@example.com");
      const body = { token, name: "Joining", password: PASSWORD };
      return { path: "/v1/auth/signup/invited", body, token: null };
    },
  },
  "DELETE /v1/me/providers/:provider": {
    ...{ resource: "user", action: "provider_disconnect" },
    ask: async () => {
      const { email, token } = await platform.person();
      await platform.database.sql`insert into oauth_providers (provider, provider_id, user_id)
        select 'github', gen_random_uuid(), id from users where email = ${email}`;
      return { path: "/v1/me/providers/github", token };
    },
  },
  "POST /v1/api-keys": {
    ...{ resource: "api_key", action: "create" },
    ask: () => ({ path: "/v1/api-keys", body: { name: "ci" } }),
  },
  "DELETE /v1/api-keys/:id": {
    ...{ resource: "api_key", action: "revoke" },
    ask: async () => {
      const { id } = await call("POST", "/v1/api-keys", {});
      return { path: `/v1/api-keys/${id}` };
    },
  },
  ...changesOfChannels({ call: (...asked) => call(...asked), platform }),
  "POST /v1/hosts": {
    ...{ resource: "host", action: "create" },
    ask: () => ({ path: "/v1/hosts", body: { type: "regular" } }),
  },
  "POST /v1/hosts/:id/token": {
    ...{ resource: "host", action: "token_create" },
    ask: async () => {
      const { host } = await call("POST", "/v1/hosts", { type: "regular" });
      return { path: `/v1/hosts/${host.id}/token` };
    },
  },
  "POST /v1/hosts/register": {
    ...{ resource: "host", action: "register" },
    ask: async () => {
      const { registration_token } = await call("POST", "/v1/hosts", { type: "regular" });
      const size = { arch: "x86_64", cpu_cores: 1, memory_mb: 1, disk_gb: 1 };
      const { requestPem: csr } = await makeKeyAndRequest();
      const body = { token: registration_token, csr, address: "127.0.0.1:1", ...size };
      return { path: "/v1/hosts/register", body, token: null };
    },
  },
  "POST /v1/capsules": {
    ...{ resource: "sandbox", action: "create" },
    ask: () => ({ path: "/v1/capsules", body: {} }),
  },
  "DELETE /v1/capsules/:id": {
    ...{ resource: "sandbox", action: "destroy" },
    ask: async () => ({ path: `/v1/capsules/${await capsule()}` }),
  },
  "POST /v1/capsules/:id/pause": {
    ...{ resource: "sandbox", action: "pause" },
    ask: async () => ({ path: `/v1/capsules/${await capsule()}/pause` }),
  },
  "POST /v1/capsules/:id/resume": {
    ...{ resource: "sandbox", action: "resume" },
    ask: async () => {
      const path = `/v1/capsules/${await capsule()}`;
      await call("POST", `${path}/pause`);
      return { path: `${path}/resume`, body: {} };
    },
  },
  "POST /v1/capsules/:id/fork": {
    ...{ resource: "sandbox", action: "create" },
    ask: async () => ({ path: `/v1/capsules/${await capsule()}/fork`, body: { count: 2 } }),
  },
  "POST /v1/snapshots": {
    ...{ resource: "snapshot", action: "create" },
    ask: async () => ({
      path: "/v1/snapshots",
      body: { sandbox_id: await capsule(), name: "made" },
    }),
  },
  "PATCH /v1/snapshots/:name": {
    ...{ resource: "template", action: "rename" },
    ask: async () => ({ path: `/v1/snapshots/${await template()}`, body: { new_name: "renamed" } }),
  },
  "PATCH /v1/snapshots/:name/visibility": {
    ...{ resource: "template", action: "publish" },
    ask: async () => ({
      path: `/v1/snapshots/${await template()}/visibility`,
      body: { public: true },
    }),
  },
  "DELETE /v1/snapshots/:name": {
    ...{ resource: "snapshot", action: "delete" },
    ask: async () => ({ path: `/v1/snapshots/${await template()}` }),
  },
};

/** What is the platform's own is asked in administration/resources.db.test.ts. */
const IS_PLATFORMS = /^\/v1\/admin\/(capsules|templates)/;
const changing = (): string[] =>
  platform.app.routes
    .filter(({ method }) => !["GET", "HEAD", "OPTIONS"].includes(method))
    .filter(({ path }) => !IS_PLATFORMS.test(path))
    .map(({ method, path }) => `${method} ${path}`);

test("every route that changes something is asked here, or has a reason", () => {
  expect([...Object.keys(CHANGES), ...Object.keys(EXEMPT)].toSorted()).toEqual(
    changing().toSorted(),
  );
});

test.each(Object.entries(CHANGES))("%s leaves an entry", async (route, change) => {
  const { path, body, token = owner.token } = await change.ask();
  const requestId = crypto.randomUUID();
  const answer = await platform.call(route.split(" ")[0] ?? "", path, {
    ...(token === null ? {} : { token }),
    ...(body === undefined ? {} : { body }),
    headers: { "x-request-id": requestId },
  });
  const { resource, action } = change;
  const entries = await platform.database.sql<{ actor: string; address: string }[]>`
    select actor_type as actor, ip_address as address from audit_logs
    where request_id = ${requestId} and resource_type = ${resource} and action = ${action}`;

  expect({ status: answer.status < 300, entries: [...entries] }).toEqual({
    status: true,
    // A team's own log, and the platform's.
    entries: Array(/fork$|DELETE .*admin.teams/.test(route) ? 2 : 1).fill({
      actor: route.endsWith("hosts/register") ? "system" : "user",
      address: "unknown",
    }),
  });
});
