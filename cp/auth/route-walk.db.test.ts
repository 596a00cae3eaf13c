// Every route, asked by everybody: what each is answered is written down here, and a route without a row fails.
//
// Who may not do it asks about what there is; who may, about what there is not, so that nothing is done.

import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { encodeId, newId } from "../../proto/ids.ts";
import { AccountsPlatform, PASSWORD, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { ofPlatform, RIGHT_BODIES } from "../../tests/harness/right-bodies.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import { addHost } from "../../tests/harness/simulated-agent-platform.ts";
import { KEY_SCOPES } from "../db/tables.ts";

setDefaultTimeout(120_000);

const CALLERS = [
  "nobody",
  "disabled",
  "leaver",
  "stranger",
  "member",
  "admin",
  "owner",
  "platform",
  "key without the scope",
  "key with it alone",
] as const;
type Caller = (typeof CALLERS)[number];

/** `passes`: whatever is answered, it is about the request and not about the caller. */
type Row = Readonly<Record<Caller, string>>;

const SESSION = "401 auth_session_required";
const FORBIDDEN = "403 forbidden";
const everybody = (told: string): Row =>
  Object.fromEntries(CALLERS.map((caller) => [caller, told])) as Row;

const PUBLIC = everybody("passes");
/** Whoever is signed in. Keys are not people. */
const PERSON: Row = {
  ...PUBLIC,
  nobody: SESSION,
  disabled: "403 account_deactivated",
  "key without the scope": SESSION,
  "key with it alone": SESSION,
};
const MEMBER: Row = { ...PERSON, leaver: FORBIDDEN };
/** The team of the path. The platform's administrators are no members of it. */
const OF_TEAM: Row = { ...MEMBER, stranger: FORBIDDEN, platform: FORBIDDEN };
const MANAGER: Row = { ...OF_TEAM, member: FORBIDDEN };
const OWNER: Row = { ...MANAGER, admin: FORBIDDEN };
/** What belongs to a team as a whole. */
const TEAM: Row = {
  ...MEMBER,
  "key without the scope": "403 auth_scope_missing",
  "key with it alone": "passes",
};
const CAPSULE: Row = {
  ...TEAM,
  stranger: "404 sandbox_not_found",
  platform: "404 sandbox_not_found",
};
/** A host of the platform, which others do not see. */
const HOST: Row = {
  ...PERSON,
  ...{ leaver: "404 host_not_found", stranger: "404 host_not_found", member: "404 host_not_found" },
  ...{ admin: "404 host_not_found", owner: "404 host_not_found" },
};
const PLATFORM: Row = {
  ...PERSON,
  ...{ leaver: FORBIDDEN, stranger: FORBIDDEN, member: FORBIDDEN, admin: FORBIDDEN },
  owner: FORBIDDEN,
};

const OWN: Readonly<Record<string, Row>> = {
  "GET /health": PUBLIC,
  "POST /v1/auth/signup": PUBLIC,
  "POST /v1/auth/signup/invited": PUBLIC,
  "POST /v1/auth/activate": PUBLIC,
  "POST /v1/auth/login": PUBLIC,
  "GET /auth/oauth/:provider": PUBLIC,
  "GET /auth/oauth/:provider/callback": PUBLIC,
  "GET /v1/me/providers/:provider/connect": PERSON,
  "DELETE /v1/me/providers/:provider": PERSON,
  "POST /v1/auth/switch-team": PERSON,
  "POST /v1/auth/logout": PERSON,
  "POST /v1/auth/logout-all": PERSON,
  "GET /v1/me": PERSON,
  "PATCH /v1/me": PERSON,
  "DELETE /v1/me": PERSON,
  "GET /v1/me/sessions": PERSON,
  "DELETE /v1/me/sessions/:id": PERSON,
  "POST /v1/me/password": PERSON,
  "POST /v1/me/password/reset": PUBLIC,
  "POST /v1/me/password/reset/confirm": PUBLIC,
  "GET /v1/teams": PERSON,
  "POST /v1/teams": PERSON,
  "GET /v1/teams/slug-check": PERSON,
  "GET /v1/teams/:id": OF_TEAM,
  "PATCH /v1/teams/:id": MANAGER,
  "DELETE /v1/teams/:id": OWNER,
  "PATCH /v1/teams/:id/slug": MANAGER,
  "GET /v1/teams/:id/members": OF_TEAM,
  "POST /v1/teams/:id/members": MANAGER,
  "PATCH /v1/teams/:id/members/:uid": MANAGER,
  "DELETE /v1/teams/:id/members/:uid": MANAGER,
  "POST /v1/teams/:id/invitations": MANAGER,
  "GET /v1/teams/:id/invitations": MANAGER,
  "DELETE /v1/teams/:id/invitations/:iid": MANAGER,
  "POST /v1/invitations/accept": PERSON,
  "GET /v1/users/search": PERSON,
  "POST /v1/teams/:id/leave": { ...OF_TEAM, owner: FORBIDDEN },
  "POST /v1/teams/:id/transfer": OWNER,
  "POST /v1/api-keys": MEMBER,
  "GET /v1/api-keys": MEMBER,
  "DELETE /v1/api-keys/:id": { ...MEMBER, member: FORBIDDEN },
  "GET /v1/audit-logs": MEMBER,
  "GET /v1/audit-logs/export": MEMBER,
  "GET /v1/admin/audit-logs": PLATFORM,
  "GET /v1/admin/users": PLATFORM,
  "PUT /v1/admin/users/:id/active": PLATFORM,
  "PUT /v1/admin/users/:id/admin": PLATFORM,
  "GET /v1/admin/teams": PLATFORM,
  "PUT /v1/admin/teams/:id/byoc": PLATFORM,
  "DELETE /v1/admin/teams/:id": PLATFORM,
  "GET /v1/admin/hosts": PLATFORM,
  "GET /v1/admin/templates": PLATFORM,
  "PATCH /v1/admin/templates/:name": PLATFORM,
  "DELETE /v1/admin/templates/:name": PLATFORM,
  "POST /v1/admin/capsules/:id/snapshot": PLATFORM,
  "POST /v1/hosts": PLATFORM,
  "GET /v1/hosts": PERSON,
  "GET /v1/hosts/:id": HOST,
  "POST /v1/hosts/:id/token": HOST,
  "GET /v1/limits": TEAM,
  "GET /v1/admin/teams/:id/limits": PLATFORM,
  "PATCH /v1/admin/teams/:id/limits": PLATFORM,
  // Their bodies hold a token, here a wrong one.
  "POST /v1/hosts/register": everybody(SESSION),
  "POST /v1/hosts/auth/refresh": everybody(SESSION),
  "POST /v1/hosts/:id/heartbeat": everybody(SESSION),
  "POST /v1/capsules": TEAM,
  "GET /v1/capsules": TEAM,
  "GET /v1/capsules/:id": CAPSULE,
  "DELETE /v1/capsules/:id": CAPSULE,
  "POST /v1/capsules/:id/ping": CAPSULE,
  "POST /v1/capsules/:id/pause": CAPSULE,
  "POST /v1/capsules/:id/resume": CAPSULE,
  "POST /v1/capsules/:id/fork": CAPSULE,
  "POST /v1/capsules/:id/exec": CAPSULE,
  "GET /v1/capsules/:id/processes": CAPSULE,
  "DELETE /v1/capsules/:id/processes/:selector": CAPSULE,
  // They look into the capsule once the WebSocket is open; these requests are none.
  "GET /v1/capsules/:id/exec/stream": TEAM,
  "GET /v1/capsules/:id/processes/:selector/stream": TEAM,
  "GET /v1/capsules/:id/pty": TEAM,
  // They look at the form first, of which these requests have none.
  "POST /v1/capsules/:id/files/write": TEAM,
  "POST /v1/capsules/:id/files/stream/write": TEAM,
  "POST /v1/capsules/:id/files/read": CAPSULE,
  "POST /v1/capsules/:id/files/list": CAPSULE,
  "POST /v1/capsules/:id/files/mkdir": CAPSULE,
  "POST /v1/capsules/:id/files/remove": CAPSULE,
  "POST /v1/capsules/:id/files/stream/read": CAPSULE,
  "GET /v1/capsules/:id/metrics": CAPSULE,
  "GET /v1/capsules/stats": TEAM,
  "GET /v1/capsules/usage": TEAM,
  "GET /v1/usage/capsules": TEAM,
  "POST /v1/snapshots": CAPSULE,
  "GET /v1/snapshots": TEAM,
  "PATCH /v1/snapshots/:name": TEAM,
  "PATCH /v1/snapshots/:name/visibility": TEAM,
  "DELETE /v1/snapshots/:name": TEAM,
  "POST /v1/volumes": TEAM,
  "GET /v1/volumes": TEAM,
  "GET /v1/volumes/:name": TEAM,
  "DELETE /v1/volumes/:name": TEAM,
  "POST /v1/channels": MEMBER,
  "GET /v1/channels": MEMBER,
  "POST /v1/channels/test": MEMBER,
  "GET /v1/channels/:id": MEMBER,
  "PATCH /v1/channels/:id": MEMBER,
  "PUT /v1/channels/:id/config": MEMBER,
  "DELETE /v1/channels/:id": MEMBER,
  "GET /v1/channels/:id/deliveries": MEMBER,
  "POST /v1/channels/:id/deliveries/:delivery/redeliver": MEMBER,
  "GET /v1/events": TEAM,
  "GET /v1/events/stream": TEAM,
  "GET /v1/admin/events/stream": PLATFORM,
};

/** Of teams alone. */
const IN_SUM = ["GET /v1/capsules/stats", "GET /v1/capsules/usage"];

/** With the same routes of the platform's capsules. */
const TABLE: Readonly<Record<string, Row>> = {
  ...OWN,
  ...Object.fromEntries(
    Object.keys(OWN)
      .filter((name) => / \/v1\/capsules/.test(name) && !IN_SUM.includes(name))
      .map((name) => [ofPlatform(name), PLATFORM]),
  ),
};

/** For operators and readers: neither sessions nor keys matter there. */
const ELSEWHERE = /^GET \/(openapi\.(json|yaml)|docs.*|metrics|internal\/loops)$/;

const platform = await forThisFile(AccountsPlatform.start());
const agent = await forThisFile(Promise.resolve(new SimulatedAgent()));
const people = new Map<Caller, Person>();
const keys = new Map<string, string>();
let existing: { capsule: string; host: string; apiKey: string; user: string; team: string };

beforeAll(async () => {
  const { sql } = platform.database;
  const lastHeartbeatAt = new Date(Date.now() + 3600_000);
  const hostId = await addHost(platform.database, agent.address, { lastHeartbeatAt });
  for (const caller of ["platform", "owner", "stranger"] as const) {
    people.set(caller, await platform.person(caller));
  }
  const owner = person("owner");
  for (const caller of ["disabled", "leaver", "member", "admin"] as const) {
    people.set(caller, await join(owner, await platform.person(caller)));
  }
  await sql`update users_teams set role = 'admin'
    where user_id = (select id from users where email = ${person("admin").email})`;
  await sql`update users set status = 'disabled' where email = ${person("disabled").email}`;
  await sql`delete from users_teams
    where user_id = (select id from users where email = ${person("leaver").email})`;

  const { token, teamId: team } = owner;
  const capsule = await platform.call("POST", "/v1/capsules", { token, body: {} });
  for (const scope of KEY_SCOPES) {
    const others = KEY_SCOPES.filter((each) => each !== scope);
    for (const [name, scopes] of [
      [scope, [scope]],
      [`no ${scope}`, others],
    ] as const) {
      const { body } = await platform.call("POST", "/v1/api-keys", { token, body: { scopes } });
      keys.set(name, body.key);
    }
  }
  const apiKey = await platform.call("POST", "/v1/api-keys", { token, body: {} });
  const me = await platform.call("GET", "/v1/me", { token: person("admin").token });
  const user = String(me.body.user_id);
  const host = encodeId("host", hostId);
  existing = { capsule: capsule.body.id, host, apiKey: apiKey.body.id, user, team };
});

function person(caller: Caller): Person {
  const found = people.get(caller);
  if (found === undefined) throw new Error(`nobody is ${caller}`);
  return found;
}

/** The same person with a session of the owner's team. */
async function join(owner: Person, { email, token, ...others }: Person): Promise<Person> {
  const body = { email };
  await platform.call("POST", `/v1/teams/${owner.teamId}/members`, { token: owner.token, body });
  const switched = await platform.call("POST", "/v1/auth/switch-team", {
    ...{ token, body: { team_id: owner.teamId } },
  });
  return { ...others, email, token: switched.body.token, teamId: owner.teamId };
}

interface Route {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly scope: string | undefined;
}

const routes = (): Route[] =>
  platform.app.routes
    .map(({ method, path, hooks }) => ({
      ...{ name: `${method} ${path}`, method, path },
      scope: (hooks.detail as { "x-scope"?: string } | undefined)?.["x-scope"],
    }))
    .filter(({ name }) => !ELSEWHERE.test(name));

function credentials(caller: Caller, { scope = "read" }: Route): Record<string, string> {
  if (caller === "nobody") return {};
  if (caller === "key without the scope") return { "x-api-key": keys.get(`no ${scope}`) ?? "" };
  if (caller === "key with it alone") return { "x-api-key": keys.get(scope) ?? "" };
  return { authorization: `Bearer ${person(caller).token}` };
}

/** Of what there is, or of what there is not. */
function idsOf(route: Route, isThere: boolean): Record<string, string> {
  const { capsule, host, apiKey, user } = existing;
  const [, noun] = /^\/v1\/([a-z-]+)/.exec(route.path) ?? [];
  const unknown = <K extends "capsule" | "host" | "apiKey" | "user">(kind: K) =>
    encodeId(kind, newId(kind));
  const byNoun: Record<string, string> = {
    capsules: isThere ? capsule : unknown("capsule"),
    hosts: isThere ? host : unknown("host"),
    "api-keys": isThere ? apiKey : unknown("apiKey"),
    // There is nothing to delete that others here can do without.
    teams: route.name === "DELETE /v1/teams/:id" && !isThere ? "nothing" : existing.team,
    me: "0".repeat(64),
  };
  const id = byNoun[noun ?? ""] ?? "x";
  const iid = encodeId("invitation", newId("invitation"));
  return { id, iid, uid: isThere ? user : unknown("user"), name: "nothing", selector: "nothing" };
}

function bodyOf({ name }: Route, isThere: boolean): unknown {
  if (name === "POST /v1/hosts") return { type: "regular" };
  // It takes one of its fields.
  if (name.endsWith("/resume")) return {};
  const body = RIGHT_BODIES[name];
  if (body === undefined || !isThere || !("sandbox_id" in body)) return body;
  return { ...body, sandbox_id: existing.capsule };
}

/** What a route can't be asked without. */
const QUERIES: Readonly<Record<string, string>> = {
  "GET /v1/teams/slug-check": "?slug=any",
  "GET /v1/users/search": "?email=nobody@",
};

async function ask(route: Route, caller: Caller, isThere: boolean): Promise<string> {
  const ids = idsOf(route, isThere);
  const path = route.path.replaceAll(/:(\w+)/g, (_, name: string) => ids[name] ?? "x");
  const body = bodyOf(route, isThere);
  const response = await platform.app.handle(
    new Request(`http://localhost${path}${QUERIES[route.name] ?? ""}`, {
      method: route.method,
      headers: credentials(caller, route),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }),
  );
  if (response.headers.get("content-type") === "text/event-stream") {
    await response.body?.cancel();
    return "200";
  }
  const text = await response.text();
  const { error } = response.status < 400 ? { error: undefined } : JSON.parse(text);
  return error === undefined ? `${response.status}` : `${response.status} ${error.reason}`;
}

const OF_CALLERS = new Set([
  SESSION,
  FORBIDDEN,
  "401 auth_invalid_api_key",
  "403 account_deactivated",
  "403 auth_scope_missing",
]);

test("every route has a row here, and every row a route", () => {
  expect(Object.keys(TABLE).toSorted()).toEqual(
    routes()
      .map(({ name }) => name)
      .toSorted(),
  );
});

/** What takes away a right that others here need comes last. */
const LAST = ["POST /v1/teams/:id/leave", "POST /v1/auth/logout", "POST /v1/auth/logout-all"];

test.each(CALLERS)("%s is answered as written down", async (caller) => {
  const told: unknown[] = [];
  const expected: unknown[] = [];
  const all = routes().toSorted((a, b) => LAST.indexOf(a.name) - LAST.indexOf(b.name));
  for (const route of all) {
    const wanted = TABLE[route.name]?.[caller] ?? "a row";
    const isThere = wanted !== "passes";
    // The one before has ended the session.
    if (route.name === LAST[2] && !isThere) await renewSession(caller);
    const answer = await ask(route, caller, isThere);
    const passes = wanted === "passes" && !OF_CALLERS.has(answer);
    told.push([route.name, passes ? "passes" : answer]);
    expected.push([route.name, wanted]);
  }

  expect(told).toEqual(expected);
});

async function renewSession(caller: Caller): Promise<void> {
  const known = person(caller);
  const body = { email: known.email, password: PASSWORD };
  const { token } = (await platform.call("POST", "/v1/auth/login", { body })).body;
  people.set(caller, { ...known, token });
}
