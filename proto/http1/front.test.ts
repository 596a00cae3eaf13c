// What a front takes of clients: how many connections, how long a silence, how much held.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { get, ProxyFixture } from "../../tests/harness/proxy-fixture.ts";
import { rawExchange } from "../../tests/harness/raw-http.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import type { Silences } from "./server-connection.ts";
import type { Router } from "./verdict.ts";

const NEVER_MS = 60_000;
const PATIENT: Silences = {
  firstRequestMs: NEVER_MS,
  headMs: NEVER_MS,
  keptAliveMs: NEVER_MS,
  stalledMs: NEVER_MS,
};

let fixture: ProxyFixture;
let sockets: Socket[];

beforeEach(() => {
  fixture = new ProxyFixture();
  sockets = [];
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await fixture[Symbol.asyncDispose]();
});

const hello: Router = () => ({ status: 200, headers: [], body: "hello" });

/** A client that has sent this and reads; `closed` resolves with how long the front let it be. */
function client(port: number, text: string) {
  const socket = connect({ port, host: "127.0.0.1" });
  sockets.push(socket);
  const startedAt = performance.now();
  const closed = new Promise<number>((resolve) => {
    socket.on("close", () => resolve(performance.now() - startedAt));
  });
  socket.on("error", () => {});
  socket.resume();
  if (text !== "") socket.write(text);
  return { socket, closed };
}

async function connected(port: number): Promise<Socket> {
  const { socket } = client(port, get());
  await once(socket, "data");
  return socket;
}

describe("a client ends that", () => {
  test.each<[string, keyof Silences, string]>([
    ["says nothing", "firstRequestMs", ""],
    ["does not end its head", "headMs", "GET / HTTP/1.1\r\nHost: x\r\n"],
    ["asks for nothing more", "keptAliveMs", get()],
  ])("%s", async (_, which, text) => {
    const silences = { ...PATIENT, [which]: 500 };
    const port = fixture.frontWith(hello, { silences });

    expect(await client(port, text).closed).toBeWithin(500, 10_000);
  });

  test("does not send the body that it has announced", async () => {
    const upstream = await fixture.server(() => {});
    const limits = { silences: { ...PATIENT, stalledMs: 500 } };
    const port = fixture.frontOf(upstream.port, { limits });
    const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345";

    const { text } = await rawExchange(port, head);

    expect(text).toEndWith("silent");
    expect(fixture.leases).toBe(0);
  });

  test("does not take what it asked for", async () => {
    const block = Buffer.alloc(2 ** 20);
    const gone = Promise.withResolvers<void>();
    const upstream = await fixture.server((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      const send = () => {
        while (socket.write(block));
      };
      socket.on("drain", send);
      socket.on("close", () => gone.resolve());
      send();
    });
    const limits = { silences: { ...PATIENT, stalledMs: 500 } };
    const port = fixture.frontOf(upstream.port, { limits });

    client(port, get()).socket.pause();
    await gone.promise;

    expect(fixture.leases).toBe(0);
  });

  test("reads none of the answers to requests that it goes on to send", async () => {
    const router: Router = () => ({ status: 200, headers: [], body: "x".repeat(65_536) });
    const port = fixture.frontWith(router, { silences: { ...PATIENT, stalledMs: 500 } });
    const { socket } = client(port, get().repeat(1_000));
    socket.pause();

    for (;;) {
      socket.write(get());
      if (socket.destroyed) break;
      await Bun.sleep(20);
    }

    expect(socket.destroyed).toBe(true);
  });
});

test("a server may think for longer than a client may be silent", async () => {
  const upstream = await fixture.server((socket) => {
    setTimeout(() => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), 2_500);
  });
  const silences = { firstRequestMs: 100, headMs: 100, keptAliveMs: 100, stalledMs: 100 };
  const port = fixture.frontOf(upstream.port, { limits: { silences } });

  const { text } = await rawExchange(port, get("/", "Connection: close"));

  expect(text).toEndWith("ok");
});

describe("connections too many", () => {
  test("of one address are told so, those of others are served", async () => {
    const port = fixture.frontWith(hello, { connectionsMax: 10, connectionsPerAddressMax: 2 });
    const [first] = [await connected(port), await connected(port)];

    const third = await rawExchange(port, get());
    first.destroy();
    let again = third;
    while (!again.text.startsWith("HTTP/1.1 200")) {
      again = await rawExchange(port, get("/", "Connection: close"));
    }

    expect(third.text).toStartWith("HTTP/1.1 429 Too Many Requests\r\n");
    expect(third.text).toEndWith('"There are too many connections from this address"}');
    expect(again.text).toEndWith("hello");
  });

  test("of all addresses are told so", async () => {
    const port = fixture.frontWith(hello, { connectionsMax: 2, connectionsPerAddressMax: 2 });
    await connected(port);
    await connected(port);

    const third = await rawExchange(port, get());

    expect([third.text.slice(0, 12), third.error]).toEqual(["HTTP/1.1 503", null]);
  });

  test("are a thousand that send nothing, and take the place of nobody for long", async () => {
    const limits = { connectionsMax: 10, connectionsPerAddressMax: 10 };
    const silences = { ...PATIENT, firstRequestMs: 500 };
    const port = fixture.frontWith(hello, { ...limits, silences });

    await Promise.all(Array.from({ length: 1_000 }, () => client(port, "").closed));
    // A client may hear of its end before its place is free.
    const ask = async () => (await rawExchange(port, get("/", "Connection: close"))).text;
    await waitFor("a place", ask, { holds: (text) => text.endsWith("hello") });
  });

  test("are not those of a proxy that forwards for many", async () => {
    const limits = { connectionsMax: 10, connectionsPerAddressMax: 2 };
    const port = fixture.frontWith(hello, limits, (address) => address === "127.0.0.1");

    const all = await Promise.all([1, 2, 3, 4].map(() => connected(port)));

    expect(all).toHaveLength(4);
  });
});

test("what is held for all is bounded: the connections end for which most is held", async () => {
  const router: Router = ({ target }) => {
    return { status: 200, headers: [], body: target === "/much" ? "x".repeat(2 ** 24) : "hello" };
  };
  const port = fixture.frontWith(router, { heldBytesMax: 2 ** 20, silences: PATIENT });
  const idle = await connected(port);
  const { socket, closed } = client(port, get("/much"));
  socket.pause();
  while (socket.bytesWritten === 0) await Bun.sleep(10);

  // The kernel tells a paused reader of a cut only when it reads.
  for (let isCut = false; !isCut; ) {
    await Bun.sleep(100);
    isCut = fixture.heldBytes === 0;
  }
  socket.resume();
  await closed;
  idle.write(get());
  const [answer] = await once(idle, "data");

  expect(String(answer)).toEndWith("hello");
});
