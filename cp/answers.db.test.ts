// What every route answers, held against its description: whatever a client does, and whatever happens to
// hosts, the answer is one that is described and has the form that all have; and what is described happens.

import { expect, setDefaultTimeout, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { HostAgentService } from "../proto/gen/hostagent/hostagent_pb.js";
import { encodeId, newId } from "../proto/ids.ts";
import { AccountsPlatform, PASSWORD } from "../tests/harness/accounts-platform.ts";
import { ELSEWHERE } from "../tests/harness/answered-elsewhere.ts";
import { forThisFile } from "../tests/harness/for-this-file.ts";
import { RIGHT_BODIES } from "../tests/harness/right-bodies.ts";
import { type Method, SimulatedAgent } from "../tests/harness/simulated-agent.ts";
import { addHost } from "../tests/harness/simulated-agent-platform.ts";
import { hosts } from "./db/tables.ts";
import { AppError, REASONS, toErrorCode, toReason } from "./errors.ts";

setDefaultTimeout(120_000);

/** Enough of each call of an agent for all that is asked here. */
const CALLS_MAX = 400;

const platform = await forThisFile(AccountsPlatform.start());
const agent = await forThisFile(Promise.resolve(new SimulatedAgent()));
// It tells nothing of itself, and all this takes longer than a host may be silent.
const lastHeartbeatAt = new Date(Date.now() + 3600_000);
await addHost(platform.database, agent.address, { lastHeartbeatAt });
/** Who may do everything. */
const owner = await platform.person("Owner");
const disabled = await platform.person("Disabled");
const leaver = await platform.person("Leaver");
/** Whose sessions end again and again. */
const passer = await platform.person("Passer");
const { sql, db } = platform.database;
await sql`update users set status = 'disabled' where email = ${disabled.email}`;
await sql`delete from users_teams where user_id = (select id from users where email = ${leaver.email})`;

let fault: ConnectError | null = null;
/** Longer than a client that waits for nothing. */
const SLOW_MS = 20;
let isSlow = false;
for (const method of Object.keys(HostAgentService.method) as Method[]) {
  for (let count = 0; count < CALLS_MAX; count++) {
    agent.faultBefore(method, async () => {
      if (isSlow) await Bun.sleep(SLOW_MS);
      if (fault !== null) throw fault;
    });
  }
}

interface Described {
  readonly responses: Record<string, { readonly headers: Record<string, unknown> }>;
}
const { paths } = await get("/openapi.json");
/** What is answered about capsules of the platform's team comes from the same functions as about a team's. */
const isOfPlatform = (path: string) => path.startsWith("/v1/admin/capsules");
const ROUTES = Object.entries(paths as Record<string, Record<string, Described>>)
  .filter(([path]) => !isOfPlatform(path))
  .flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { responses }]) => {
      const template = path.replaceAll(/\{(\w+)\}/g, ":$1");
      return {
        name: `${method.toUpperCase()} ${template}`,
        method: method.toUpperCase(),
        path: template,
        responses,
      };
    }),
  );
type Route = (typeof ROUTES)[number];

interface Asked {
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** What is asked of each route; null: nothing. */
type Ask = (route: Route) => Promise<Asked | null> | Asked | null;

const seen = new Map<string, Set<string>>(ROUTES.map(({ name }) => [name, new Set()]));

async function get(path: string): Promise<{ paths: unknown }> {
  const response = await platform.app.handle(new Request(`http://localhost${path}`));
  return JSON.parse(await response.text());
}

const as = ({ token }: { token: string }) => ({ authorization: `Bearer ${token}` });
/** Done by somebody else, who is not of that team. */
const ENDS_SESSIONS =
  /^(POST \/v1\/(auth\/(logout|logout-all|switch-team)|me\/password)|DELETE \/v1\/teams\/:id)$/;

async function newSession({ email }: { email: string }): Promise<{ token: string }> {
  const body = { email, password: PASSWORD };
  return (await platform.call("POST", "/v1/auth/login", { body })).body;
}

const rightHeaders = async ({ name }: Route) => ({
  ...as(ENDS_SESSIONS.test(name) ? await newSession(passer) : owner),
  "x-host-token": await platform.tokens.signHost({ hostId: newId("host"), certName: "" }),
});

const isUpload = (name: string) => /\/files\/(stream\/)?write$/.test(name);
const UPLOAD = [
  ...["--x", 'Content-Disposition: form-data; name="path"', "", "/a"],
  ...["--x", 'Content-Disposition: form-data; name="file"; filename="a"', "", "text", "--x--", ""],
].join("\r\n");
let snapshots = 0;

/** A capsule of the owner's in that state. */
const known = new Map<string, string>();
async function capsule(state: "running" | "paused"): Promise<string> {
  const id = known.get(state);
  if (id !== undefined) {
    const { body } = await platform.call("GET", `/v1/capsules/${id}`, { token: owner.token });
    if (body.status === state) return id;
  }
  const made = await platform.call("POST", "/v1/capsules", { token: owner.token, body: {} });
  if (made.status !== 201) throw new Error(JSON.stringify(made));
  if (state === "paused") {
    await platform.call("POST", `/v1/capsules/${made.body.id}/pause`, { token: owner.token });
  }
  known.set(state, made.body.id);
  return made.body.id;
}

function withIds({ path }: Route, ids: { capsule: string; others?: string }): string {
  const isHost = path.startsWith("/v1/hosts");
  const kind = isHost ? "host" : path.startsWith("/v1/channels") ? "channel" : "apiKey";
  if (path.startsWith("/v1/teams") && ids.others === undefined) {
    return path.replace(":id", owner.teamId).replace(":uid", encodeId("user", newId("user")));
  }
  const id = path.startsWith("/v1/capsules")
    ? ids.capsule
    : (ids.others ?? encodeId(kind, newId(kind)));
  return path
    .replace(":id", id)
    .replace(":delivery", ids.others ?? encodeId("delivery", newId("delivery")))
    .replaceAll(/:(name|selector|uid|iid|provider)/g, ids.others ?? "nothing");
}

function bodyOf({ name }: Route, capsuleId: string): string | undefined {
  if (isUpload(name)) return UPLOAD;
  const body = RIGHT_BODIES[name];
  if (body === undefined) return undefined;
  return JSON.stringify(
    "sandbox_id" in body ? { sandbox_id: capsuleId, name: `n${++snapshots}` } : withoutDoubt(body),
  );
}

/** Of a resume, which takes one of the two. */
function withoutDoubt({ memory, ...body }: Readonly<Record<string, unknown>>) {
  return "from" in body ? body : { ...body, ...(memory === undefined ? {} : { memory }) };
}

async function right(route: Route, state: "running" | "paused" = "running"): Promise<Asked> {
  const id = await capsule(state);
  const body = bodyOf(route, id);
  return {
    path: withIds(route, { capsule: id }),
    headers: {
      ...(await rightHeaders(route)),
      ...(isUpload(route.name) ? { "content-type": "multipart/form-data; boundary=x" } : {}),
    },
    ...(body === undefined ? {} : { body }),
  };
}
const ofCapsules = ({ path }: Route) => /^\/v1\/(capsules|snapshots)/.test(path);
const upgrade = { connection: "upgrade", upgrade: "websocket", "sec-websocket-version": "13" };

const SITUATIONS: Readonly<Record<string, Ask>> = {
  "as it should be": (route) => right(route),
  "about a paused capsule": (route) => (ofCapsules(route) ? right(route, "paused") : null),
  "not waiting": async (route) => {
    const isResume = route.path.endsWith("/resume");
    const asked = await right(route, isResume ? "paused" : "running");
    return { ...asked, headers: { ...asked.headers, prefer: "respond-async" } };
  },
  "by a stranger": async (route) => ({ ...(await right(route)), headers: {} }),
  "by a wrong key": async (route) => ({
    ...(await right(route)),
    headers: { "x-api-key": "wrn_", "x-host-token": "no" },
  }),
  "by somebody whose account is disabled": async (route) => ({
    ...(await right(route)),
    headers: as(disabled),
  }),
  "by somebody who is in no team": async (route) => ({
    ...(await right(route)),
    headers: as(leaver),
  }),
  "of a foreign page": async (route) =>
    route.method === "GET"
      ? {
          ...(await right(route)),
          headers: { ...upgrade, cookie: "wrenn_sid=a", origin: "http://a.b" },
        }
      : null,
  "about what cannot be": async (route) => ({
    ...(await right(route)),
    path: withIds(route, { capsule: "x", others: "%00" }),
  }),
  "about what is not there": async (route) => ({
    ...(await right(route)),
    path: withIds(route, { capsule: encodeId("capsule", newId("capsule")) }),
  }),
  "with a body about what is not there": async (route) => {
    const nothing = encodeId("capsule", newId("capsule"));
    const body = { sandbox_id: nothing, template: "nothing", cmd: "true", path: "/nothing" };
    return route.method === "GET" || isUpload(route.name)
      ? null
      : { ...(await right(route)), body: JSON.stringify(body) };
  },
  "with volumes": async (route) =>
    route.name === "POST /v1/capsules"
      ? { ...(await right(route)), body: JSON.stringify({ volume_ids: ["a"] }) }
      : null,
  "with a list as body": async (route) =>
    route.method === "GET" ? null : { ...(await right(route)), body: "[]" },
  "with a query that is none": async (route) => ({
    ...(await right(route)),
    path: `${(await right(route)).path}?type=x&metadata=%00&range=x&signal=x&from=x&to=x&encoding=x&overwrite=x`,
  }),
  "with too large a body": async (route) =>
    route.method === "GET" ? null : { ...(await right(route)), body: " ".repeat(6 * 1024 * 1024) },
};

async function send(route: Route, asked: Asked): Promise<void> {
  const { method, name } = route;
  const { path = "", headers = {}, body } = asked;
  const init = { method, headers, ...(body === undefined || method === "GET" ? {} : { body }) };
  const response = await platform.app.handle(new Request(`http://localhost${path}`, init));
  const isEndless = response.headers.get("content-type") === "text/event-stream";
  const text = isEndless ? "" : await response.text();
  if (isEndless) await response.body?.cancel();
  const { status } = response;
  seen.get(name)?.add(String(status));
  const requestId = response.headers.get("x-request-id");
  expect([name, requestId]).toEqual([name, expect.stringMatching(/^req_[0-9a-f]{16}$/)]);
  if (status >= 400) requireForm({ name, text, status, requestId, headers: response.headers });
  requireHeaders(route, response);
}

interface Failed {
  readonly name: string;
  readonly text: string;
  readonly status: number;
  readonly requestId: string | null;
  readonly headers: Headers;
}

function requireForm({ name, text, status, requestId, headers }: Failed): void {
  const { error } = JSON.parse(text);
  const code = toErrorCode(error.code);
  const reason = toReason(error.reason);
  const usual = new AppError(code, "");
  const { retryable } = usual.toBody().error;
  const told = [name, error.code, error.request_id, error.retryable, headers.get("retry-after")];
  const after = usual.retryAfterSec === undefined ? null : String(usual.retryAfterSec);
  expect([...told, status]).toEqual([name, code, requestId, retryable, after, usual.status]);
  const codes: readonly string[] = reason === undefined ? [error.reason] : [REASONS[reason]].flat();
  expect([name, error.reason, codes]).toEqual([name, error.reason, expect.arrayContaining([code])]);
  // Whoever is told that something is not there, or in no state for it, is told what.
  const isPrecise = !["not_found", "invalid_state"].includes(code) || reason !== undefined;
  expect([name, text, isPrecise]).toEqual([name, text, true]);
}

function requireHeaders({ name, responses }: Route, { status, headers }: Response): void {
  const described = Object.keys((responses[status] ?? responses.default)?.headers ?? {});
  const sent = ["X-Request-ID", "Retry-After", "Preference-Applied", "Location"].filter((header) =>
    headers.has(header),
  );
  expect([name, status, sent.filter((header) => !described.includes(header))]).toEqual([
    name,
    status,
    [],
  ]);
}

test.each(Object.entries(SITUATIONS))("asked %s", async (situation, ask) => {
  for (const route of ROUTES) {
    const asked = await ask(route);
    if (asked === null) continue;
    isSlow = situation === "not waiting";
    await send(route, asked).finally(() => {
      isSlow = false;
    });
  }
});

const writes = ({ path }: Route) => /\/files\/((stream\/)?write|mkdir)$/.test(path);
const tells = ({ path }: Route) => /\/(exec|files\/list|processes)$/.test(path);
const calls = (route: Route) => ofCapsules(route) && !route.path.endsWith("/metrics");

test.each<[string, Code, string, (route: Route) => boolean]>([
  ["that does not answer", Code.Unavailable, "", ofCapsules],
  ["whose guest does not answer", Code.Unavailable, "guest", ofCapsules],
  ["that is too slow", Code.DeadlineExceeded, "", ofCapsules],
  ["that fails", Code.Internal, "", ofCapsules],
  ["without the capsule", Code.NotFound, "capsule", ofCapsules],
  ["where too much is asked of the capsule", Code.ResourceExhausted, "capsule", calls],
  ["where the guest's disk is full", Code.ResourceExhausted, "disk", writes],
  ["where the answer is too large", Code.ResourceExhausted, "", tells],
  ["that refuses it", Code.FailedPrecondition, "capsule", calls],
])("asked of a host %s", async (_, code, reason, which) => {
  for (const route of ROUTES.filter(which)) {
    const isResume = route.path.endsWith("/resume");
    const asked = await right(route, isResume ? "paused" : "running");
    fault = new ConnectError("no", code, reason === "" ? {} : { "wrenn-reason": reason });
    await send(route, asked).finally(() => {
      fault = null;
    });
  }
});

test("asked while no host is there", async () => {
  const all = await Promise.all(ROUTES.filter(ofCapsules).map((route) => right(route)));
  await db.update(hosts).set({ status: "unreachable" });
  for (const [at, route] of ROUTES.filter(ofCapsules).entries()) await send(route, all[at] ?? {});
  await db.update(hosts).set({ status: "online" });
});

test("what is answered is described, and what is described is answered", () => {
  const undescribed = ROUTES.flatMap(({ name, responses }) =>
    [...(seen.get(name) ?? [])]
      .filter((status) => !(status in responses))
      .map((status) => `${name} ${status}`),
  );
  const unseen = ROUTES.flatMap(({ name, responses }) =>
    Object.keys(responses)
      .filter((status) => status !== "default" && seen.get(name)?.has(status) !== true)
      .map((status) => `${name} ${status}`),
  );

  expect(undescribed).toEqual([]);
  expect(unseen.toSorted()).toEqual(Object.values(ELSEWHERE).flat().toSorted());
});
