// Both halves of the proxy with the real database between them: what the control plane remembers, and
// how the agent sets it right.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { eq } from "drizzle-orm";
import { AgentError } from "../../agent/errors.ts";
import { Guest } from "../../agent/guest/guest.ts";
import { StreamBudget } from "../../agent/guest/stream-budget.ts";
import { GuestRouter } from "../../agent/proxy/guest-router.ts";
import { EnvdTokens } from "../../cp/capsules/envd-tokens.ts";
import { TrustedProxies } from "../../cp/client-address.ts";
import { capsules, hosts, teams } from "../../cp/db/tables.ts";
import { frontLimits } from "../../cp/front/limits.ts";
import { AgentPools } from "../../cp/proxy/agent-pools.ts";
import { OwnCredentials } from "../../cp/proxy/credentials.ts";
import { Placements } from "../../cp/proxy/placements.ts";
import { ProxyRouter } from "../../cp/proxy/proxy-router.ts";
import { Front } from "../../proto/http1/listener.ts";
import type { ServerTls } from "../../proto/http1/tls.ts";
import { encodeId, newId } from "../../proto/ids.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { rawExchange } from "../harness/raw-http.ts";
import { CAPSULE_ROW } from "../harness/rows.ts";
import { AGENT_NAME, AGENT_TLS, CONTROL_PLANE } from "../harness/test-certificates.ts";

const DOMAIN = "wrenn.test";
const ENVD_TOKENS = new EnvdTokens(new Uint8Array(32));
/** Longer than a capsule that does not run is remembered. */
const FORGOTTEN_MS = 300;

let resources: AsyncDisposableStack;
let database: TestDatabase;
let cpPort: number;
let guestPort: number;
/** Where each capsule runs, by agent. */
let running: Map<string, Guest>[];
let agentPorts: number[];
/** The hosts' disks are full, and their guests stand still. */
let isFull: boolean;
/** The headers that the server in the guest saw last. */
let seen: Headers;

const id = newId("capsule");
const text = encodeId("capsule", id);

beforeEach(async () => {
  resources = new AsyncDisposableStack();
  database = resources.use(await cloneDatabase());
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      seen = request.headers;
      const location = seen.get("x-redirect");
      if (location !== null) return new Response(null, { status: 302, headers: { location } });
      return new Response(request.url);
    },
  });
  resources.defer(() => server.stop(true));
  guestPort = server.port ?? 0;
  running = [new Map(), new Map()];
  isFull = false;
  agentPorts = running.map(startAgent);
  cpPort = startControlPlane();
  await insertRows();
});

afterEach(() => resources.disposeAsync());

function startAgent(guests: Map<string, Guest>): number {
  const router = new GuestRouter({
    use(capsuleId) {
      if (isFull) throw new AgentError("resource_exhausted", "no room", { subject: "host" });
      const guest = guests.get(capsuleId);
      if (guest) return { guest, [Symbol.dispose]() {} };
      throw new AgentError("not_found", "it is not here", { subject: "capsule" });
    },
  });
  resources.defer(() => router.close());
  return startFront(
    (request) => router.route(request) ?? { status: 404, headers: [], body: "" },
    AGENT_TLS,
  );
}

function startControlPlane(): number {
  const pools = resources.adopt(new AgentPools(CONTROL_PLANE.current), (pools) => pools.close());
  const router = new ProxyRouter({
    domain: DOMAIN,
    placements: new Placements(database.db),
    pools,
    envdTokens: ENVD_TOKENS,
    ownCredentials: new OwnCredentials("s".repeat(32)),
    proxies: new TrustedProxies([]),
  });
  return startFront((request, peer) => {
    return router.route(request, peer) ?? { status: 404, headers: [], body: "the API" };
  });
}

function startFront(
  router: ConstructorParameters<typeof Front>[0]["router"],
  tls?: ServerTls,
): number {
  const failed = (error: unknown) => {
    throw error;
  };
  const front = resources.use(new Front({ router, limits: frontLimits(4096), failed }));
  return front.listen({ hostname: "127.0.0.1", port: 0, ...(tls === undefined ? {} : { tls }) });
}

async function insertRows(): Promise<void> {
  const { db } = database;
  const teamId = newId("team");
  await db.insert(teams).values({ id: teamId, name: "t", slug: "t" });
  const hostId = await insertHost(agentPorts[0] ?? 0);
  const operationId = crypto.randomUUID();
  const row = { ...CAPSULE_ROW, id, teamId, hostId, operationId, status: "running" } as const;
  await db.insert(capsules).values(row);
}

async function insertHost(port: number) {
  const hostId = newId("host");
  const address = `127.0.0.1:${port}`;
  await database.db
    .insert(hosts)
    .values({ id: hostId, status: "online", address, certName: AGENT_NAME });
  return hostId;
}

/** The capsule runs at the agent from now on. */
function run(agent: number): Guest {
  const budget = new StreamBudget(1);
  const guest = new Guest({ hostIp: "127.0.0.1", accessToken: "t", teamId: "team", budget });
  running[agent]?.set(text, guest);
  return guest;
}

function end(agent: number): void {
  running[agent]?.get(text)?.close();
  running[agent]?.delete(text);
}

async function change(set: Partial<typeof capsules.$inferInsert>): Promise<void> {
  await database.db.update(capsules).set(set).where(eq(capsules.id, id));
}

async function ask(headers: Record<string, string> = {}, port = guestPort) {
  const response = await fetch(`http://127.0.0.1:${cpPort}/x?y`, {
    headers: { host: `${port}-${text}.${DOMAIN}`, ...headers },
  });
  return { status: response.status, body: await response.text() };
}

test("a request reaches the server in the guest, and the rest is the API's", async () => {
  run(0);

  expect(await ask()).toEqual({ status: 200, body: `http://127.0.0.1:${guestPort}/x?y` });
  expect(await ask({ host: `api.${DOMAIN}` })).toEqual({ status: 404, body: "the API" });
});

// What lines mean is remembered as long as they come again, and the first line may name another host.
test("on one connection the same lines lead where each request's first line says", async () => {
  run(0);
  const lines = `Host: ${guestPort}-${text}.${DOMAIN}\r\nX-API-Key: wrn_0\r\nA: b\r\n\r\n`;
  const targets = [
    "/1",
    "/2",
    "/3",
    "http://api.example/4",
    "/5",
    `http://1-${text}.${DOMAIN}/6`,
    "/7",
  ];
  const requests = targets.map((target) => `GET ${target} HTTP/1.1\r\n${lines}`).join("");

  const answers = await rawExchange(cpPort, requests, (all) => all.endsWith("/7"));

  const own = (path: string) => `http://127.0.0.1:${guestPort}${path}`;
  const told = answers.text.match(/http:\/\/127[^\s]*\d(?=HTTP|$)|the API|port is not open/g);
  expect(told).toEqual([
    own("/1"),
    own("/2"),
    own("/3"),
    "the API",
    own("/5"),
    "port is not open",
    own("/7"),
  ]);
  expect([seen.get("a"), seen.get("x-api-key")]).toEqual(["b", null]);
  expect(seen.get("x-forwarded-host")).toBe(`${guestPort}-${text}.${DOMAIN}`);
});

test("a capsule that stands still, for its host's disk is full, is said to, and found again", async () => {
  run(0);
  await ask();
  isFull = true;
  const still = await ask();
  isFull = false;

  expect(still.status).toBe(503);
  expect(JSON.parse(still.body)).toMatchObject({
    sandboxId: text,
    message: "The sandbox stands still until there is room on its host's disk",
  });
  expect((await ask()).status).toBe(200);
});

test("a redirect to a path that looks like one of the agents is left as it is", async () => {
  run(0);
  const location = `/proxy/${text}/${guestPort}1/x`;
  const response = await fetch(`http://127.0.0.1:${cpPort}/x`, {
    headers: { host: `${guestPort}-${text}.${DOMAIN}`, "x-redirect": location },
    redirect: "manual",
  });

  expect([response.status, response.headers.get("location")]).toEqual([302, location]);
});

test("a capsule that ended answers 502 at once, whatever is remembered", async () => {
  run(0);
  await ask();
  end(0);
  await change({ status: "stopped" });

  const { status, body } = await ask();

  expect(status).toBe(502);
  expect(JSON.parse(body)).toEqual({
    sandboxId: text,
    message: "The sandbox was not found",
    code: 502,
    request_id: expect.stringMatching(/^req_/),
  });
});

test("a request is sent to where its capsule came up, and its client sees no refusal", async () => {
  run(0);
  await ask();
  end(0);
  run(1);
  await change({ hostId: await insertHost(agentPorts[1] ?? 0) });

  expect((await ask()).status).toBe(200);
});

test.each(["pending", "starting", "pausing", "resuming"] as const)(
  "a capsule that is %s is told to be in transition",
  async (status) => {
    await change({ status });

    expect((await ask()).status).toBe(409);

    run(0);
    await change({ status: "running" });
    await Bun.sleep(FORGOTTEN_MS);
    expect((await ask()).status).toBe(200);
  },
);

test("a running capsule is looked up once, not for every request", async () => {
  run(0);
  await ask();
  await change({ status: "stopped" });

  expect((await ask()).status).toBe(200);
});

test("private ports ask for the capsule's traffic token", async () => {
  run(0);
  await change({ privatePorts: true });

  expect((await ask()).status).toBe(403);
  expect((await ask({ "x-wrenn-traffic-token": ENVD_TOKENS.of(id) })).status).toBe(403);
  expect((await ask({ "x-wrenn-traffic-token": ENVD_TOKENS.trafficOf(id) })).status).toBe(200);
});

test("who has no token for a private port is told of every way to show it", async () => {
  run(0);
  await change({ privatePorts: true });
  const token = ENVD_TOKENS.trafficOf(id);

  const told = [await ask(), await ask({ "e2b-traffic-access-token": "wrong" })];
  const messages = told.map(({ body }) => String(JSON.parse(body).message));
  expect(messages[0]).toEndWith(" is missing");
  expect(messages[1]).toEndWith(" is invalid");
  for (const message of messages) {
    const [, header = "", other = "", parameter = ""] =
      /'(.+?)'.*'(.+?)'.*'(.+?)'/.exec(message) ?? [];
    expect((await ask({ [header]: token })).status).toBe(200);
    expect((await ask({ [other]: token })).status).toBe(200);
    const page = await fetch(`http://127.0.0.1:${cpPort}/?${parameter}=${token}`, {
      headers: { host: `${guestPort}-${text}.${DOMAIN}` },
      redirect: "manual",
    });
    expect(page.status).toBe(302);
  }
});

test("a browser opens a private port with the token in the address, once", async () => {
  run(0);
  await change({ privatePorts: true });
  const host = `${guestPort}-${text}.${DOMAIN}`;
  const token = ENVD_TOKENS.trafficOf(id);
  const opening = await fetch(`http://127.0.0.1:${cpPort}/x?wrenn_traffic_token=${token}`, {
    headers: { host },
    redirect: "manual",
  });
  const [cookie = ""] = (opening.headers.get("set-cookie") ?? "").split(";");

  const opened = await ask({ cookie: `a=1; ${cookie}` });
  const cookiesSeen = seen.get("cookie");
  const preflight = await fetch(`http://127.0.0.1:${cpPort}/x`, {
    method: "OPTIONS",
    headers: { host, origin: "https://app.example", "access-control-request-method": "PUT" },
  });

  expect([opening.status, opening.headers.get("location")]).toEqual([302, "/x"]);
  expect(opened).toEqual({ status: 200, body: `http://127.0.0.1:${guestPort}/x?y` });
  expect(cookiesSeen).toBe("a=1");
  expect(preflight.status).toBe(200);
  expect((await ask({ cookie, origin: "http://evil.example" })).status).toBe(403);
});

describe("a server in the guest", () => {
  const host = () => `${guestPort}-${text}.${DOMAIN}:${cpPort}`;
  const inside = () => `127.0.0.1:${guestPort}`;

  test("finds itself in what its own pages ask, however it compares", async () => {
    run(0);
    const own = `http://${host()}`;

    await ask({ host: host(), origin: own, referer: `${own}/form?a=b` });
    const [origin, forwarded] = [seen.get("origin"), seen.get("x-forwarded-host")];

    expect(origin).toBe(`http://${seen.get("host")}`);
    expect(origin).toBe(`${seen.get("x-forwarded-proto")}://${forwarded}`);
    expect(seen.get("referer")).toBe(`http://${inside()}/form?a=b`);
  });

  test("is told the outside where no page of its own asks, and its pages as its own", async () => {
    run(0);

    await ask({ host: host(), referer: `http://${host()}/page` });

    expect(seen.get("host")).toBe(inside());
    expect(seen.get("x-forwarded-host")).toBe(host());
    expect(seen.get("referer")).toBe(`http://${inside()}/page`);
  });

  test.each(["http://evil.example", "null", "https://{host}", "http://{host}.evil.example"])(
    "sees that %s is another origin",
    async (pattern) => {
      run(0);
      const origin = pattern.replace("{host}", host());

      await ask({ host: host(), origin, referer: `${origin}/page` });

      expect([seen.get("origin"), seen.get("referer")]).toEqual([origin, `${origin}/page`]);
      expect(seen.get("x-forwarded-host")).toBe(host());
    },
  );

  test("behind a proxy that ends TLS has the origin that the proxy tells", async () => {
    run(0);
    const origin = "https://app.example";
    const forwarded = { "x-forwarded-proto": "https", "x-forwarded-host": "app.example" };

    await ask({ host: host(), origin, ...forwarded });

    expect(seen.get("origin")).toBe(`http://${inside()}`);
  });
});

test("a closed port, an unknown capsule and an agent that is away have their answers", async () => {
  run(0);
  const closed = await ask({}, 1);
  const unknown = await ask({ host: `80-${encodeId("capsule", newId("capsule"))}.${DOMAIN}` });
  await change({ hostId: await insertHost(1) });
  end(0);
  await ask();

  expect([closed.status, JSON.parse(closed.body).port]).toEqual([502, 1]);
  expect(unknown.status).toBe(502);
  expect((await ask()).status).toBe(502);
});

test("while the database is away, capsules that are remembered still answer", async () => {
  run(0);
  await ask();
  await database.close();

  expect((await ask()).status).toBe(200);
  expect(
    (await ask({ host: `80-${encodeId("capsule", newId("capsule"))}.${DOMAIN}` })).status,
  ).toBe(503);
});
