// Requests that are sent again (RFC 9110, 9.2.2): only where no harm can come of it, and then whole.

import { afterEach, beforeEach, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { ProxyFixture } from "../../tests/harness/proxy-fixture.ts";
import { rawServer } from "../../tests/harness/raw-http.ts";

let fixture: ProxyFixture;

beforeEach(() => {
  fixture = new ProxyFixture();
});

afterEach(() => fixture[Symbol.asyncDispose]());

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/** A server that answers the first request of a connection and breaks off at the second. */
const answersOnce = () => {
  const answered = new Set<Socket>();
  return fixture.server((socket) => {
    if (answered.has(socket)) socket.resetAndDestroy();
    else socket.write(OK);
    answered.add(socket);
  });
};

test("a small PUT on a kept connection that is cut goes again with its body", async () => {
  const upstream = await answersOnce();
  const url = `http://127.0.0.1:${fixture.frontOf(upstream.port)}/`;

  await (await fetch(url)).text();
  const put = await fetch(url, { method: "PUT", body: "hello" });

  expect([put.status, await put.text(), upstream.connections()]).toEqual([200, "ok", 2]);
  expect(upstream.received().split("hello")).toHaveLength(3);
});

test.each(["", "x"])("a POST of %p that may have been acted on is not sent twice", async (body) => {
  const upstream = await answersOnce();
  const url = `http://127.0.0.1:${fixture.frontOf(upstream.port)}/`;

  await (await fetch(url)).text();
  const post = await fetch(url, { method: "POST", body });

  expect([post.status, await post.text(), upstream.connections()]).toEqual([502, "broken", 1]);
});

test("a server that is replaced gets what nobody was there to take", async () => {
  const gone = await rawServer(() => {});
  const { port } = gone;
  await gone[Symbol.asyncDispose]();
  const url = `http://127.0.0.1:${fixture.frontOf(port, { retryAfterMs: [100, 200, 400] })}/`;

  const post = fetch(url, { method: "POST", body: "x" });
  await Bun.sleep(150);
  using _back = Bun.serve({
    port,
    hostname: "127.0.0.1",
    fetch: async (r) => new Response(r.body),
  });

  expect(await (await post).text()).toBe("x");
});

const elsewhere = "HTTP/1.1 503 Elsewhere\r\nContent-Length: 0\r\n\r\n";

test("a request that was sent to the wrong place goes to the right one, with its body", async () => {
  const wrong = await fixture.server((socket) => socket.write(elsewhere));
  const right = fixture.bunServer(async (request) => new Response(await request.text()));
  const url = `http://127.0.0.1:${fixture.frontOf(wrong.port, { movedTo: right })}/`;
  const post = (body: string | ReadableStream) => fetch(url, { method: "POST", body });
  const slow = new ReadableStream({
    async start(controller) {
      controller.enqueue(Buffer.from("first, "));
      await Bun.sleep(100);
      controller.enqueue(Buffer.from("then"));
      controller.close();
    },
  });

  const texts = [await (await post("hello")).text(), await (await post(slow)).text()];

  expect(texts).toEqual(["hello", "first, then"]);
  expect(fixture.leases).toBe(0);
});

test("a body that is too large to be kept is not sent elsewhere", async () => {
  const wrong = await fixture.server((socket, text) => {
    if (text.endsWith("end")) socket.write(elsewhere);
  });
  const right = fixture.bunServer(() => new Response("whole?"));
  const url = `http://127.0.0.1:${fixture.frontOf(wrong.port, { movedTo: right })}/`;

  const post = await fetch(url, { method: "POST", body: "end".padStart(100_000, "x") });

  expect([post.status, await post.text()]).toEqual([502, "moved"]);
});
