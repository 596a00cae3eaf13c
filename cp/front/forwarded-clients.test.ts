import { expect, test } from "bun:test";
import { parseRequestHead } from "../../proto/http1/head.ts";
import type { Answer, Router } from "../../proto/http1/verdict.ts";
import { get, ProxyFixture } from "../../tests/harness/proxy-fixture.ts";
import { rawExchange } from "../../tests/harness/raw-http.ts";
import { TrustedProxies } from "../client-address.ts";
import { ForwardedClients } from "./forwarded-clients.ts";
import { frontLimits } from "./limits.ts";

const limits = { ...frontLimits(4096), connectionsPerAddressMax: 2 };
const asking = (client: string) => get("/", `X-Forwarded-For: ${client}`, "Connection: close");

test("a client behind a proxy of ours has as many requests at once as another has connections", async () => {
  await using fixture = new ProxyFixture();
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let waiting = 0;
  const upstream = fixture.bunServer(async () => {
    waiting += 1;
    await released;
    return new Response("hello");
  });
  const router = fixture.routerTo(upstream);
  const clients = new ForwardedClients(new TrustedProxies([]), limits);
  const port = fixture.frontWith(clients.limit(router));

  const held = ["192.0.2.1", "192.0.2.1"].map((client) => rawExchange(port, asking(client)));
  while (waiting < 2) await Bun.sleep(5);
  const tooMany = await rawExchange(port, asking("203.0.113.9, 192.0.2.1, 127.0.0.1"));
  const others = [asking("192.0.2.2"), get("/", "Connection: close")].map((text) =>
    rawExchange(port, text),
  );
  while (waiting < 4) await Bun.sleep(5);
  release();
  const answers = await Promise.all([...held, ...others]);
  const again = await rawExchange(port, asking("192.0.2.1"));

  expect(tooMany.text).toStartWith("HTTP/1.1 429 ");
  expect(answers.map(({ text }) => text.slice(-5))).toEqual(Array(4).fill("hello"));
  expect(again.text).toEndWith("hello");
});

test("a request that is answered here, or fails, counts no longer than that takes", async () => {
  const clients = new ForwardedClients(new TrustedProxies([]), limits);
  const answer: Answer = { status: 404, headers: [], body: "" };
  const fail = () => {
    throw new Error("it fails");
  };
  const routers: Router[] = [() => answer, async () => answer, fail, async () => fail()].map(
    (router) => clients.limit(router),
  );
  const request = parseRequestHead(Buffer.from(asking("192.0.2.1")));
  const peer = { address: "127.0.0.1", scheme: "http" } as const;

  for (const router of routers) {
    for (let i = 0; i < limits.connectionsPerAddressMax + 1; i++) {
      const outcome = await (async () => router(request, peer))().catch(String);
      expect(outcome === answer || outcome === "Error: it fails").toBe(true);
    }
  }
});

test("a client that nobody vouches for is counted by its connections alone", () => {
  const clients = new ForwardedClients(new TrustedProxies([]), limits);
  let routed = 0;
  const router = clients.limit(() => {
    routed += 1;
    return new Promise(() => {});
  });
  const request = parseRequestHead(Buffer.from(asking("192.0.2.1")));
  const peer = { address: "203.0.113.7", scheme: "http" } as const;

  for (let i = 0; i < 5; i++) void router(request, peer);

  expect(routed).toBe(5);
});
