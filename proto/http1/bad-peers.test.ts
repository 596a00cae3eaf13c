// Servers and clients that break off, break the protocol, or do not read.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { get, ProxyFixture } from "../../tests/harness/proxy-fixture.ts";

let fixture: ProxyFixture;

beforeEach(() => {
  fixture = new ProxyFixture();
});

afterEach(() => fixture[Symbol.asyncDispose]());

// The worst that a proxy can do: give half an answer for the whole.
test.each([
  ["a known length, reset", "Content-Length: 10\r\n\r\nhalf", "reset"],
  ["a known length, ended", "Content-Length: 10\r\n\r\nhalf", "end"],
  ["chunks, reset", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "reset"],
  ["chunks, ended", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "end"],
  ["chunks that go wrong", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", "stay"],
  ["no length, reset", "\r\nhalf", "reset"],
])("an answer with %s fails at the client", async (_, rest, how) => {
  const upstream = await fixture.server((socket) => {
    socket.write(`HTTP/1.1 200 OK\r\n${rest}`);
    setTimeout(() => {
      if (how === "reset") socket.resetAndDestroy();
      if (how === "end") socket.end();
    }, 50);
  });
  const port = fixture.frontOf(upstream.port);

  const read = fetch(`http://127.0.0.1:${port}/`).then((response) => response.text());

  expect(await read.catch(() => "failed")).toBe("failed");
  expect(fixture.leases).toBe(0);
});

test.each([
  ["says nothing and ends", (socket: Socket) => socket.end()],
  ["resets", (socket: Socket) => socket.resetAndDestroy()],
  ["speaks another protocol", (socket: Socket) => socket.write("SSH-2.0\r\n\r\n")],
  [
    "has an endless head",
    (socket: Socket) => socket.write("HTTP/1.1 200 OK\r\nA: ".padEnd(200_000, "a")),
  ],
  ["changes the protocol unasked", (socket: Socket) => socket.write("HTTP/1.1 101 S\r\n\r\n")],
])("a server that %s is a broken one", async (_, misbehave) => {
  const upstream = await fixture.server(misbehave);
  const port = fixture.frontOf(upstream.port);

  const response = await fetch(`http://127.0.0.1:${port}/`);

  expect([response.status, await response.text()]).toEqual([502, "broken"]);
  expect(fixture.leases).toBe(0);
});

// What it says beyond its answer would be the answer to whoever asks next.
test("a server that says more than its answer is asked nothing more on that connection", async () => {
  const upstream = await fixture.server((socket) =>
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"),
  );
  const url = `http://127.0.0.1:${fixture.frontOf(upstream.port)}/`;

  const texts = [await (await fetch(url)).text(), await (await fetch(url)).text()];

  expect(texts).toEqual(["ok", "ok"]);
  expect(upstream.connections()).toBe(2);
});

test("a server that never answers is given up, and so is one that stops in the middle", async () => {
  const upstream = await fixture.server((socket, text) => {
    if (text.startsWith("GET /half")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
  });
  const port = fixture.frontOf(upstream.port, { idleTimeoutMs: 500 });

  const silent = await fetch(`http://127.0.0.1:${port}/`);
  const half = fetch(`http://127.0.0.1:${port}/half`).then((response) => response.text());

  expect(await silent.text()).toBe("silent");
  expect(await half.catch(() => "failed")).toBe("failed");
});

test("nobody listening is told after the tries", async () => {
  const port = fixture.frontOf(1);
  const startedAt = performance.now();

  const response = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: "x" });

  expect(await response.text()).toBe("refused");
  expect(performance.now() - startedAt).toBeGreaterThan(45);
});

// 256 MiB offered to each; kernel buffers on this way hold some 10 MiB.
test("a reader that does not read stops the writer, in both directions", async () => {
  const offered = 256 * 1024 * 1024;
  const block = Buffer.alloc(1024 * 1024);
  let produced = 0;
  const upstream = await fixture.server((socket, text) => {
    if (text.startsWith("POST")) {
      socket.pause();
      return;
    }
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${offered}\r\n\r\n`);
    const produce = () => {
      while (produced < offered) {
        produced += block.length;
        if (!socket.write(block)) return;
      }
    };
    socket.on("drain", produce);
    produce();
  });
  const port = fixture.frontOf(upstream.port);

  const reader = connect({ port });
  reader.pause();
  reader.write(get());
  const writer = connect({ port });
  writer.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${offered}\r\n\r\n`);
  let sent = 0;
  const send = () => {
    while (sent < offered) {
      sent += block.length;
      if (!writer.write(block)) return;
    }
  };
  writer.on("drain", send);
  send();
  await Bun.sleep(1_500);
  const before = { produced, sent };
  await Bun.sleep(500);

  expect({ produced, sent }).toEqual(before);
  expect(produced).toBeLessThan(offered / 4);
  expect(sent).toBeLessThan(offered / 4);
  reader.destroy();
  writer.destroy();
}, 15_000);

// 64 MiB of answers to 100 KB of requests; the kernel's buffers on this way take some 10 MiB.
test("a client that does not read gets no more answers, and the rest of them once it reads", async () => {
  const requests = 4_000;
  const body = "x".repeat(16_384);
  let routed = 0;
  const port = fixture.frontWith(() => {
    routed += 1;
    return { status: 200, headers: [], body };
  });
  const client = connect({ port });
  client.pause();
  client.write(get().repeat(requests - 1) + get("/", "Connection: close"));
  for (let before = -1; before !== routed; await Bun.sleep(200)) before = routed;
  const routedUnread = routed;

  let received = 0;
  client.on("data", (bytes: Buffer) => {
    received += bytes.length;
  });
  client.resume();
  await once(client, "close");

  expect(routedUnread).toBeLessThan(requests / 2);
  expect(routed).toBe(requests);
  expect(received).toBeGreaterThan(requests * body.length);
});
