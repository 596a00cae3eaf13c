// The whole way of a request through a front, with real sockets.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { get, ProxyFixture } from "../../tests/harness/proxy-fixture.ts";
import { rawExchange } from "../../tests/harness/raw-http.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";

describe.each([
  ["the server itself", false],
  ["a second front, over TLS", true],
])("through %s", (_where, isSecured) => {
  let fixture: ProxyFixture;

  beforeEach(() => {
    fixture = new ProxyFixture(isSecured);
  });

  afterEach(() => fixture[Symbol.asyncDispose]());

  test("one connection carries many requests, one after the other, over one to the server", async () => {
    const upstream = await fixture.server((socket, text) => {
      const path = /GET (\S+)/.exec(text)?.[1] ?? "";
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}`);
    });
    const port = fixture.frontOf(upstream.port);

    const all = get("/1") + get("/22") + get("/333", "Connection: close");
    const { text } = await rawExchange(port, all);

    expect(text.match(/(?<=\r\n\r\n)\/\d+/g)).toEqual(["/1", "/22", "/333"]);
    expect(upstream.connections()).toBe(1);
    expect(fixture.leases).toBe(0);
  });

  test("headers of the connection end at the proxy, others pass in their order and case", async () => {
    const upstream = await fixture.server((socket) => {
      socket.write(
        "HTTP/1.1 200 Fine\r\nX-A: 1\r\nKeep-Alive: x\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n",
      );
    });
    const port = fixture.frontOf(upstream.port);

    const lines = ["Connection: close, X-Own", "X-Own: 1", "TE: trailers", "Foo: a", "foo: b"];
    const { text } = await rawExchange(port, get("/", ...lines));

    expect(upstream.received()).toBe("GET / HTTP/1.1\r\nHost: x\r\nFoo: a\r\nfoo: b\r\n\r\n");
    expect(text).toBe(
      "HTTP/1.1 200 Fine\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
  });

  test.each([
    ["HEAD", "200 OK\r\nContent-Length: 5"],
    ["GET", "204 No Content"],
    ["GET", "304 Not Modified\r\nContent-Length: 5"],
  ])("%s answered by %p has no body, and the connection goes on", async (method, head) => {
    const upstream = await fixture.server((socket) => socket.write(`HTTP/1.1 ${head}\r\n\r\n`));
    const port = fixture.frontOf(upstream.port);

    const first = `${method} / HTTP/1.1\r\nHost: x\r\n\r\n`;
    const last = `${method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
    const { text } = await rawExchange(port, first + last);

    expect(text.split("HTTP/1.1 ").length).toBe(3);
  });

  test("a request waits for 100 where the server says so", async () => {
    const upstream = await fixture.server((socket, text) => {
      if (text.startsWith("POST")) socket.write("HTTP/1.1 100 Continue\r\n\r\n");
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    const port = fixture.frontOf(upstream.port);

    const head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    const { text } = await rawExchange(port, head, (text) => text.includes("100 Continue"));

    expect(text).toBe("HTTP/1.1 100 Continue\r\n\r\n");
    expect(upstream.received()).toContain("Expect: 100-continue");
  });

  test("chunks pass in both directions, with extensions and trailers", async () => {
    const chunks = "3;a=b\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n";
    const upstream = await fixture.server((socket, text) => {
      if (text.endsWith("Trailer: 1\r\n\r\n")) {
        socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`);
      }
    });
    const port = fixture.frontOf(upstream.port);

    const head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    const { text } = await rawExchange(port, head + chunks, (text) => text.endsWith(chunks));

    expect(upstream.received()).toEndWith(`\r\n\r\n${chunks}`);
    expect(text).toEndWith(`\r\n\r\n${chunks}`);
  });

  test("malformed chunks never become a request of their own", async () => {
    const upstream = await fixture.server(() => {});
    const port = fixture.frontOf(upstream.port);

    const bad = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\nX\r\n0\r\n\r\n";
    const { text } = await rawExchange(port, bad + get("/admin"));

    expect(text).toStartWith("HTTP/1.1 400 ");
    expect(text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    // Not even its head, for it came with the chunks.
    expect(upstream.received()).toBe("");
  });

  test("an answer until the end of the connection reaches HTTP/1.1 in chunks, HTTP/1.0 as it is", async () => {
    const upstream = await fixture.server((socket) => {
      socket.write("HTTP/1.0 200 OK\r\n\r\nhalf");
      setTimeout(() => socket.end("half"), 20);
    });
    const port = fixture.frontOf(upstream.port);

    const modern = await fetch(`http://127.0.0.1:${port}/`);
    const old = await rawExchange(port, "GET / HTTP/1.0\r\nHost: x\r\n\r\n");

    expect(await modern.text()).toBe("halfhalf");
    expect(old.text).toEndWith("Connection: close\r\n\r\nhalfhalf");
  });

  test("HTTP/1.0 gets chunks unpacked", async () => {
    const upstream = await fixture.server((socket) => {
      socket.write(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
      );
    });
    const port = fixture.frontOf(upstream.port);

    const { text } = await rawExchange(port, "GET / HTTP/1.0\r\nHost: x\r\n\r\n");

    expect(text).toBe("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcd");
  });

  test("a changed protocol is a tunnel for bytes of both sides, early ones too", async () => {
    const upstream = await fixture.server((socket, text) => {
      if (text.startsWith("GET")) {
        const head = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        socket.write(`${head}hello `);
        const early = text.split("\r\n\r\n")[1];
        if (early) socket.write(early);
      } else socket.write(text);
    });
    const port = fixture.frontOf(upstream.port);

    const upgrade = get("/", "Connection: Upgrade", "Upgrade: echo");
    const { text } = await rawExchange(port, `${upgrade}world`, (text) => text.includes("world"));

    expect(text).toStartWith("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
    expect(text).toEndWith("hello world");
  });

  test("a tunnel's side that ends first still gets what the other sends", async () => {
    const upstream = await fixture.server((socket, text) => {
      if (text.startsWith("GET")) {
        socket.write("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        socket.removeAllListeners("end");
        socket.on("end", () => setTimeout(() => socket.end("last words"), 50));
      }
    });
    const port = fixture.frontOf(upstream.port);
    const socket = connect({ port, allowHalfOpen: true });
    let text = "";
    socket.on("data", (piece) => {
      text += piece;
      if (text.endsWith("\r\n\r\n")) socket.end();
    });
    socket.write(get("/", "Connection: Upgrade", "Upgrade: x"));
    await new Promise((resolve) => socket.once("end", resolve));

    expect(text).toEndWith("last words");
  });

  test("a kept connection that the server closed meanwhile is not the client's failure", async () => {
    const answered = new Set<Socket>();
    const upstream = await fixture.server((socket) => {
      if (answered.has(socket)) socket.resetAndDestroy();
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      answered.add(socket);
    });
    const port = fixture.frontOf(upstream.port);

    const first = await fetch(`http://127.0.0.1:${port}/`);
    const second = await fetch(`http://127.0.0.1:${port}/`);

    expect([await first.text(), await second.text()]).toEqual(["ok", "ok"]);
    expect(upstream.connections()).toBe(2);
  });

  // Of a body that is read as it comes nobody can know whether all of it is kept.
  test.each([
    ["POST", "x", 2],
    ["PUT", "x", 2],
    ["DELETE", null, 1],
  ])(
    "a %s of %p to a fickle server: so many connections for two are %d",
    async (method, body, all) => {
      const upstream = fixture.bunServer(async (request) => new Response(await request.text()));
      const port = fixture.frontOf(upstream, { isFickle: true });
      const ask = () => fetch(`http://127.0.0.1:${port}/`, { method, body });

      await (await ask()).text();
      const idle = fixture.pool.size;
      await (await ask()).text();

      expect([idle, fixture.pool.size]).toEqual([1, all]);
    },
  );

  test("a client that goes away ends its request at the server", async () => {
    const { promise: gone, resolve } = Promise.withResolvers<void>();
    const upstream = await fixture.server((socket) => {
      socket.on("close", () => resolve());
    });
    const port = fixture.frontOf(upstream.port);
    const abort = new AbortController();

    const asked = fetch(`http://127.0.0.1:${port}/`, { signal: abort.signal }).catch(() => {});
    await waitFor("a connection", () => upstream.connections() > 0);
    abort.abort();
    await asked;
    await gone;

    expect(fixture.leases).toBe(0);
  });

  test("the end of a pool ends its requests: with an answer, or with a cut", async () => {
    const upstream = await fixture.server((socket, text) => {
      if (text.startsWith("GET /half"))
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
    });
    const port = fixture.frontOf(upstream.port);

    const waiting = fetch(`http://127.0.0.1:${port}/`);
    const half = await fetch(`http://127.0.0.1:${port}/half`);
    await waitFor("a second connection", () => upstream.connections() > 1);
    fixture.pool.close();

    expect(await (await waiting).text()).toBe("ended");
    expect(await half.text().catch(() => "failed")).toBe("failed");
    expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("ended");
    expect(fixture.leases).toBe(0);
  });

  test("an early answer ends a long upload without losing the answer", async () => {
    const upstream = await fixture.server((socket, text) => {
      if (text.startsWith("POST")) {
        socket.write("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge");
        socket.pause();
      }
    });
    const port = fixture.frontOf(upstream.port);

    const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n";
    const { text } = await rawExchange(port, head + "x".repeat(5_000_000), (t) =>
      t.endsWith("large"),
    );

    expect(text).toStartWith("HTTP/1.1 413 Too Large");
  });

  test("thousands of pipelined requests are answered without a deep stack", async () => {
    const port = fixture.frontOf(1);
    await fixture.pool.close();

    const many = get().repeat(2_000) + get("/", "Connection: close");
    const { text } = await rawExchange(port, many);

    expect(text.match(/HTTP\/1\.1 502/g)?.length).toBe(2_001);
  });
});
