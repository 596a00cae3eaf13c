// A capsule that went to another host: what the control plane remembers of it is out of date.

import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { eq } from "drizzle-orm";
import { Front } from "../../proto/http1/listener.ts";
import { PROXY_ERROR_HEADER } from "../../proto/http1/proxy-path.ts";
import { tlsOptions } from "../../proto/http1/tls.ts";
import { decodeId, type Id, newId } from "../../proto/ids.ts";
import { addHost, JWT_SECRET, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { AGENT_IDENTITY, CONTROL_PLANE } from "../../tests/harness/test-certificates.ts";
import { TrustedProxies } from "../client-address.ts";
import { capsules } from "../db/tables.ts";
import { frontLimits } from "../front/limits.ts";
import { AgentPools } from "./agent-pools.ts";
import { OwnCredentials } from "./credentials.ts";
import { Placements } from "./placements.ts";
import { ProxyRouter } from "./proxy-router.ts";

const resources = new AsyncDisposableStack();
let platform: TestPlatform;
let capsuleId: Id<"capsule">;
let url: string;
/** What each host's proxy got, and whether it has the capsule. */
let seen: string[];
let home: string;

beforeAll(async () => {
  platform = resources.use(await TestPlatform.start());
  const { db } = platform.database;
  const pools = resources.adopt(new AgentPools(CONTROL_PLANE.current), (pools) => pools.close());
  const router = new ProxyRouter({
    domain: "wrenn.test",
    placements: new Placements(db),
    pools,
    envdTokens: platform.controlPlane.deps.envdTokens,
    ownCredentials: new OwnCredentials(JWT_SECRET),
    proxies: new TrustedProxies([]),
  });
  const front = resources.use(
    new Front({
      limits: frontLimits(4096),
      failed: (error) => {
        throw error;
      },
      router: (request, peer) =>
        router.route(request, peer) ?? { status: 421, headers: [], body: "the API" },
    }),
  );
  const port = front.listen({ hostname: "127.0.0.1", port: 0 });
  const id = await platform.create();
  capsuleId = decodeId("capsule", id) ?? newId("capsule");
  url = `http://3000-${id}.wrenn.test:${port}/x`;
});
afterAll(() => resources.disposeAsync());

beforeEach(() => {
  seen = [];
});

/** A host whose proxy echoes for the capsule's home, and else says that it has none; its address. */
function hostNamed(name: string): string {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    tls: tlsOptions(AGENT_IDENTITY),
    async fetch(request) {
      const body = await request.text();
      seen.push(`${name} ${request.method} ${body.length}`);
      if (home === name) return new Response(body || "empty");
      return new Response("", { status: 503, headers: { [PROXY_ERROR_HEADER]: "not-running" } });
    },
  });
  resources.defer(async () => await server.stop(true));
  return `127.0.0.1:${server.port}`;
}

/** Moves the capsule, without a word to the proxy. */
async function moveTo(address: string): Promise<void> {
  const { database } = platform;
  const hostId = await addHost(database, address);
  await database.db.update(capsules).set({ hostId }).where(eq(capsules.id, capsuleId));
}

const ask = async (init: RequestInit = {}) => {
  const { port, hostname, pathname } = new URL(url);
  const headers = { ...Object(init.headers), host: `${hostname}:${port}` };
  const response = await fetch(`http://127.0.0.1:${port}${pathname}`, { ...init, headers });
  return [response.status, await response.text()];
};

test("a request follows its capsule to another host, with its body, whatever its method", async () => {
  home = "first";
  await moveTo(hostNamed("first"));
  const before = await ask();
  home = "second";
  await moveTo(hostNamed("second"));
  const after = await ask({ method: "POST", body: "hello" });
  const later = await ask({ method: "POST", body: "again" });

  expect([before, after, later]).toEqual([
    [200, "empty"],
    [200, "hello"],
    [200, "again"],
  ]);
  expect(seen).toEqual(["first GET 0", "first POST 5", "second POST 5", "second POST 5"]);
});

test("a request follows its capsule away from a host that is no more", async () => {
  home = "second";
  await moveTo("127.0.0.1:1");
  // What is remembered is still the host before.
  home = "nowhere";
  expect((await ask())[0]).toBe(502);
  home = "third";
  await moveTo(hostNamed("third"));

  expect(await ask()).toEqual([200, "empty"]);
}, 20_000);

test("a request is not chased from host to host", async () => {
  home = "third";
  await ask();
  home = "nowhere";
  await moveTo(hostNamed("fourth"));

  expect((await ask())[0]).toBe(502);
  expect(seen).toEqual(["third GET 0", "third GET 0", "fourth GET 0"]);
});
