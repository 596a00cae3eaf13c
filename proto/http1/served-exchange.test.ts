// Requests that a server of this process answers, through a front and a real socket.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { connect } from "node:net";
import { get, ProxyFixture } from "../../tests/harness/proxy-fixture.ts";
import { rawExchange } from "../../tests/harness/raw-http.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import type { Serve } from "./verdict.ts";

const LAST = "Connection: close";

let fixture: ProxyFixture;
let leases: number;

beforeEach(() => {
  fixture = new ProxyFixture();
  leases = 0;
});

afterEach(() => fixture[Symbol.asyncDispose]());

/** A front whose requests that function answers; returns its port. */
function frontOf(answer: (target: string, gone: AbortSignal) => Response | Promise<Response>) {
  return fixture.frontWith(({ target }): Serve => {
    leases += 1;
    const lease = { [Symbol.dispose]: () => void leases-- };
    return { serve: async (gone) => await answer(target, gone), lease };
  });
}

function chunked(text: string): string {
  return text.slice(text.indexOf("\r\n\r\n") + 4);
}

test("requests that came together are answered one after the other, with the length told", async () => {
  const port = frontOf(async (target) => {
    await Bun.sleep(target === "/1" ? 20 : 0);
    return new Response(target, { headers: { "X-A": "b" } });
  });

  const { text } = await rawExchange(port, get("/1") + get("/22") + get("/333", LAST));

  expect(text.match(/(?<=\r\n\r\n)\/\d+/g)).toEqual(["/1", "/22", "/333"]);
  expect(text).toStartWith("HTTP/1.1 200 OK\r\n");
  expect([...text.matchAll(/^(?:content-length|x-a|connection): .*$/gim)].flat()).toEqual([
    ...["x-a: b", "Content-Length: 2", "x-a: b", "Content-Length: 3"],
    ...["x-a: b", "Content-Length: 4", "Connection: close"],
  ]);
  expect(leases).toBe(0);
});

test.each([204, 304])("%p has neither a body nor a length", async (status) => {
  const port = frontOf(() => new Response(null, { status }));

  const { text } = await rawExchange(port, get("/", LAST));

  expect(text).toStartWith(`HTTP/1.1 ${status} `);
  expect(text.toLowerCase()).not.toContain("content-length");
  expect(text).toEndWith("\r\n\r\n");
});

test("the length of a body in many pieces is told when they are all there", async () => {
  const port = frontOf(() => new Response("x".repeat(200_000)));

  const { text } = await rawExchange(port, get("/", LAST));

  expect(text).toMatch(/^Content-Length: 200000\r$/m);
  expect(chunked(text)).toBe("x".repeat(200_000));
});

test("a body that is too large to be taken at once goes out in chunks, whole", async () => {
  const port = frontOf(() => new Response("x".repeat(2_000_000)));

  const response = await fetch(`http://127.0.0.1:${port}/`);

  expect(response.headers.get("transfer-encoding")).toBe("chunked");
  expect(await response.text()).toBe("x".repeat(2_000_000));
});

test("a body that is still being made goes out in chunks as it comes", async () => {
  const second = Promise.withResolvers<string>();
  async function* pieces() {
    yield Buffer.from("one");
    yield Buffer.from(await second.promise);
  }
  const port = frontOf(() => new Response(pieces()));

  let text = "";
  const socket = connect(port, "127.0.0.1", () => socket.write(get("/", LAST)));
  socket.on("data", (bytes) => (text += bytes.toString("latin1")));
  await waitFor("the first piece", () => chunked(text) === "3\r\none\r\n");
  second.resolve("three");

  await waitFor("the end", () => chunked(text) === "3\r\none\r\n5\r\nthree\r\n0\r\n\r\n");
  socket.destroy();
});

test("an empty piece is not the end", async () => {
  const pieces = ["one", "", "three"].map((piece) => Buffer.from(piece));
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        await Bun.sleep(5);
        const piece = pieces.shift();
        if (piece === undefined) controller.close();
        else controller.enqueue(piece);
      },
    },
    { highWaterMark: 0 },
  );
  const port = frontOf(() => new Response(body));

  const { text } = await rawExchange(port, get("/", LAST));

  expect(chunked(text)).toBe("3\r\none\r\n5\r\nthree\r\n0\r\n\r\n");
});

test("a client that does not read stops whoever makes the body, and going away ends it", async () => {
  let made = 0;
  let isCancelled = false;
  const body = () =>
    new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          made += 1;
          controller.enqueue(new Uint8Array(256 * 1024));
        },
        cancel() {
          isCancelled = true;
        },
      },
      { highWaterMark: 0 },
    );
  const port = frontOf(() => new Response(body()));
  const socket = connect(port, "127.0.0.1", () => socket.write(get())).on("error", () => {});
  socket.pause();

  let before = -1;
  await waitFor("the maker to stop", async () => {
    before = made;
    await Bun.sleep(200);
    return made > 0 && made === before;
  });
  expect(fixture.heldBytes).toBeLessThan(1024 ** 2);
  socket.destroy();

  await waitFor("the end", () => isCancelled && leases === 0);
});

test("whoever serves hears that the client has gone", async () => {
  const gone = Promise.withResolvers<void>();
  const port = frontOf(async (_, signal) => {
    signal.addEventListener("abort", () => gone.resolve());
    await gone.promise;
    return new Response("nobody reads this");
  });

  const socket = connect(port, "127.0.0.1", () => socket.write(get())).on("error", () => {});
  await waitFor("the request", () => leases === 1);
  socket.destroy();

  await gone.promise;
  await waitFor("the end", () => leases === 0);
});

test("a body that breaks off is no whole one to the client", async () => {
  async function* pieces() {
    yield Buffer.from("begun");
    await Bun.sleep(1);
    throw new Error("broken");
  }
  const port = frontOf(() => new Response(pieces()));

  const { text } = await rawExchange(port, get());

  expect(chunked(text)).toBe("5\r\nbegun\r\n");
  expect(leases).toBe(0);
});
