// The whole way of a request through a front, with real sockets and servers that misbehave.

import { afterEach, beforeEach, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { type RawServer, rawExchange, rawServer } from "../../tests/harness/raw-http.ts";
import { endToEnd } from "./hop.ts";
import { Front } from "./listener.ts";
import { UpstreamPool } from "./upstream-pool.ts";

let resources: AsyncDisposableStack;
let pool: UpstreamPool;
let leases: number;

beforeEach(() => {
  resources = new AsyncDisposableStack();
  leases = 0;
});

afterEach(() => resources.disposeAsync());

/** A front before the server; returns the front's port. */
function frontOf(upstreamPort: number, more: { isFickle?: boolean; idleTimeoutMs?: number } = {}) {
  pool = resources.adopt(
    new UpstreamPool({
      address: { hostname: "127.0.0.1", port: upstreamPort },
      idleMax: 8,
      idleMs: 5_000,
      connectionsMax: 16,
      retryAfterMs: [50],
      dialTimeoutMs: 1_000,
      isFickle: more.isFickle ?? false,
    }),
    (pool) => pool.close(),
  );
  const front = resources.use(
    new Front({
      connectionsMax: 100,
      failed: (error) => {
        throw error;
      },
      router: (request) => {
        leases += 1;
        return {
          pool,
          target: request.target,
          headers: endToEnd(request.headers),
          idleTimeoutMs: more.idleTimeoutMs ?? null,
          lease: { [Symbol.dispose]: () => leases-- },
          respond: (head) => endToEnd(head.headers),
          explain: (failure) => ({ status: 502, headers: [], body: failure }),
        };
      },
    }),
  );
  return front.listen({ hostname: "127.0.0.1", port: 0 });
}

async function server(serve: (socket: Socket, text: string) => void): Promise<RawServer> {
  return resources.use(await rawServer(serve));
}

function bunServer(fetch: (request: Request) => Response | Promise<Response>) {
  return resources.adopt(
    Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch }),
    (server) => server.stop(true),
  );
}

const get = (path = "/", ...lines: string[]) =>
  [`GET ${path} HTTP/1.1`, "Host: x", ...lines, "", ""].join("\r\n");

test("one connection carries many requests, one after the other, over one to the server", async () => {
  const upstream = await server((socket, text) => {
    const path = /GET (\S+)/.exec(text)?.[1] ?? "";
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}`);
  });
  const port = frontOf(upstream.port);

  const all = get("/1") + get("/22") + get("/333", "Connection: close");
  const { text } = await rawExchange(port, all);

  expect(text.match(/(?<=\r\n\r\n)\/\d+/g)).toEqual(["/1", "/22", "/333"]);
  expect(upstream.connections()).toBe(1);
  expect(leases).toBe(0);
});

test("headers of the connection end at the proxy, others pass in their order and case", async () => {
  const upstream = await server((socket) => {
    socket.write(
      "HTTP/1.1 200 Fine\r\nX-A: 1\r\nKeep-Alive: x\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n",
    );
  });
  const port = frontOf(upstream.port);

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
  const upstream = await server((socket) => socket.write(`HTTP/1.1 ${head}\r\n\r\n`));
  const port = frontOf(upstream.port);

  const first = `${method} / HTTP/1.1\r\nHost: x\r\n\r\n`;
  const last = `${method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
  const { text } = await rawExchange(port, first + last);

  expect(text.split("HTTP/1.1 ").length).toBe(3);
});

test("a request waits for 100 where the server says so", async () => {
  const upstream = await server((socket, text) => {
    if (text.startsWith("POST")) socket.write("HTTP/1.1 100 Continue\r\n\r\n");
    else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  const port = frontOf(upstream.port);

  const head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
  const { text } = await rawExchange(port, head, (text) => text.includes("100 Continue"));

  expect(text).toBe("HTTP/1.1 100 Continue\r\n\r\n");
  expect(upstream.received()).toContain("Expect: 100-continue");
});

test("chunks pass in both directions, with extensions and trailers", async () => {
  const chunks = "3;a=b\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n";
  const upstream = await server((socket, text) => {
    if (text.endsWith("Trailer: 1\r\n\r\n")) {
      socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`);
    }
  });
  const port = frontOf(upstream.port);

  const head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  const { text } = await rawExchange(port, head + chunks, (text) => text.endsWith(chunks));

  expect(upstream.received()).toEndWith(`\r\n\r\n${chunks}`);
  expect(text).toEndWith(`\r\n\r\n${chunks}`);
});

test("malformed chunks never become a request of their own", async () => {
  const upstream = await server(() => {});
  const port = frontOf(upstream.port);

  const bad = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\nX\r\n0\r\n\r\n";
  const { error } = await rawExchange(port, bad + get("/admin"));

  expect(error).toContain("ECONNRESET");
  expect(upstream.received()).not.toContain("/admin");
});

test("an answer until the end of the connection reaches HTTP/1.1 in chunks, HTTP/1.0 as it is", async () => {
  const upstream = await server((socket) => {
    socket.write("HTTP/1.0 200 OK\r\n\r\nhalf");
    setTimeout(() => socket.end("half"), 20);
  });
  const port = frontOf(upstream.port);

  const modern = await fetch(`http://127.0.0.1:${port}/`);
  const old = await rawExchange(port, "GET / HTTP/1.0\r\n\r\n");

  expect(await modern.text()).toBe("halfhalf");
  expect(old.text).toEndWith("Connection: close\r\n\r\nhalfhalf");
});

test("HTTP/1.0 gets chunks unpacked", async () => {
  const upstream = await server((socket) => {
    socket.write(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
    );
  });
  const port = frontOf(upstream.port);

  const { text } = await rawExchange(port, "GET / HTTP/1.0\r\n\r\n");

  expect(text).toBe("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcd");
});

test("a changed protocol is a tunnel for bytes of both sides, early ones too", async () => {
  const upstream = await server((socket, text) => {
    if (text.startsWith("GET")) {
      const head = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
      socket.write(`${head}hello `);
      const early = text.split("\r\n\r\n")[1];
      if (early) socket.write(early);
    } else socket.write(text);
  });
  const port = frontOf(upstream.port);

  const upgrade = get("/", "Connection: Upgrade", "Upgrade: echo");
  const { text } = await rawExchange(port, `${upgrade}world`, (text) => text.includes("world"));

  expect(text).toStartWith("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
  expect(text).toEndWith("hello world");
});

test("a tunnel's side that ends first still gets what the other sends", async () => {
  const upstream = await server((socket, text) => {
    if (text.startsWith("GET")) {
      socket.write("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
      socket.removeAllListeners("end");
      socket.on("end", () => setTimeout(() => socket.end("last words"), 50));
    }
  });
  const port = frontOf(upstream.port);
  const socket = (await import("node:net")).connect({ port, allowHalfOpen: true });
  let text = "";
  socket.on("data", (piece) => {
    text += piece;
    if (text.endsWith("\r\n\r\n")) socket.end();
  });
  socket.write(get("/", "Connection: Upgrade", "Upgrade: x"));
  await new Promise((resolve) => socket.once("end", resolve));

  expect(text).toEndWith("last words");
});

// The worst that a proxy can do: give half an answer for the whole.
test.each([
  ["a known length, reset", "Content-Length: 10\r\n\r\nhalf", "reset"],
  ["a known length, ended", "Content-Length: 10\r\n\r\nhalf", "end"],
  ["chunks, reset", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "reset"],
  ["chunks, ended", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "end"],
  ["chunks that go wrong", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", "stay"],
  ["no length, reset", "\r\nhalf", "reset"],
])("an answer with %s fails at the client", async (_, rest, how) => {
  const upstream = await server((socket) => {
    socket.write(`HTTP/1.1 200 OK\r\n${rest}`);
    setTimeout(() => {
      if (how === "reset") socket.resetAndDestroy();
      if (how === "end") socket.end();
    }, 50);
  });
  const port = frontOf(upstream.port);

  const read = fetch(`http://127.0.0.1:${port}/`).then((response) => response.text());

  expect(await read.catch(() => "failed")).toBe("failed");
  expect(leases).toBe(0);
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
  const upstream = await server(misbehave);
  const port = frontOf(upstream.port);

  const response = await fetch(`http://127.0.0.1:${port}/`);

  expect([response.status, await response.text()]).toEqual([502, "broken"]);
  expect(leases).toBe(0);
});

test("a server that never answers is given up, and so is one that stops in the middle", async () => {
  const upstream = await server((socket, text) => {
    if (text.startsWith("GET /half")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
  });
  const port = frontOf(upstream.port, { idleTimeoutMs: 500 });

  const silent = await fetch(`http://127.0.0.1:${port}/`);
  const half = fetch(`http://127.0.0.1:${port}/half`).then((response) => response.text());

  expect(await silent.text()).toBe("silent");
  expect(await half.catch(() => "failed")).toBe("failed");
});

test("nobody listening is told after the tries", async () => {
  const port = frontOf(1);
  const startedAt = performance.now();

  const response = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: "x" });

  expect(await response.text()).toBe("refused");
  expect(performance.now() - startedAt).toBeGreaterThan(45);
});

test("a kept connection that the server closed meanwhile is not the client's failure", async () => {
  const answered = new Set<Socket>();
  const upstream = await server((socket) => {
    if (answered.has(socket)) socket.resetAndDestroy();
    else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    answered.add(socket);
  });
  const port = frontOf(upstream.port);

  const first = await fetch(`http://127.0.0.1:${port}/`);
  const second = await fetch(`http://127.0.0.1:${port}/`);

  expect([await first.text(), await second.text()]).toEqual(["ok", "ok"]);
  expect(upstream.connections()).toBe(2);
});

test("what may not be sent twice goes over a new connection to a fickle server", async () => {
  const upstream = bunServer(async (request) => new Response(await request.text()));
  const port = frontOf(upstream.port ?? 0, { isFickle: true });
  const post = () => fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: "x" });

  await (await post()).text();
  const idle = pool.size;
  await (await post()).text();

  expect([idle, pool.size]).toEqual([1, 2]);
});

test("a client that goes away ends its request at the server", async () => {
  const { promise: gone, resolve } = Promise.withResolvers<void>();
  const upstream = await server((socket) => {
    socket.on("close", () => resolve());
  });
  const port = frontOf(upstream.port);
  const abort = new AbortController();

  const asked = fetch(`http://127.0.0.1:${port}/`, { signal: abort.signal }).catch(() => {});
  while (upstream.connections() === 0) await Bun.sleep(5);
  abort.abort();
  await asked;
  await gone;

  expect(leases).toBe(0);
});

test("the end of a pool ends its requests: with an answer, or with a cut", async () => {
  const upstream = await server((socket, text) => {
    if (text.startsWith("GET /half")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
  });
  const port = frontOf(upstream.port);

  const waiting = fetch(`http://127.0.0.1:${port}/`);
  const half = await fetch(`http://127.0.0.1:${port}/half`);
  while (upstream.connections() < 2) await Bun.sleep(5);
  pool.close();

  expect(await (await waiting).text()).toBe("ended");
  expect(await half.text().catch(() => "failed")).toBe("failed");
  expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("ended");
  expect(leases).toBe(0);
});

test("an early answer ends a long upload without losing the answer", async () => {
  const upstream = await server((socket, text) => {
    if (text.startsWith("POST")) {
      socket.write("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge");
      socket.pause();
    }
  });
  const port = frontOf(upstream.port);

  const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n";
  const { text } = await rawExchange(port, head + "x".repeat(5_000_000), (t) =>
    t.endsWith("large"),
  );

  expect(text).toStartWith("HTTP/1.1 413 Too Large");
});

// 256 MiB offered to each; kernel buffers on this way hold some 10 MiB.
test("a reader that does not read stops the writer, in both directions", async () => {
  const offered = 256 * 1024 * 1024;
  const block = Buffer.alloc(1024 * 1024);
  let produced = 0;
  const upstream = await server((socket, text) => {
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
  const port = frontOf(upstream.port);
  const { connect } = await import("node:net");

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

test("thousands of pipelined requests are answered without a deep stack", async () => {
  const port = frontOf(1);
  await pool.close();

  const many = get().repeat(2_000) + get("/", "Connection: close");
  const { text } = await rawExchange(port, many);

  expect(text.match(/HTTP\/1\.1 502/g)?.length).toBe(2_001);
});
