// Ports of a real capsule under hosts of their own: what passes, and that it passes whole.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import type { Platform } from "../../scripts/dev/settings.ts";
import type { Capsule, Client } from "../harness/client.ts";
import { type CapsulePort, seen, startGuestServer } from "../harness/guest-server.ts";
import { adminClient, platform, sourcedEnv } from "../harness/platform.ts";
import { GROWTH_MIB_MAX, programSizes } from "../harness/program-sizes.ts";
import { rawExchange } from "../harness/raw-http.ts";

const BOOT_TIMEOUT_MS = 120_000;
const SLOW_TIMEOUT_MS = 240_000;
const SOAK_TIMEOUT_MS = 3_600_000;
const isSoak = Boolean(process.env.WRENN_SOAK);
const BULK_BYTES = isSoak ? 4 * 1024 ** 3 : 100 * 1024 ** 2;
const BLOCK = Uint8Array.from({ length: 65_536 }, (_, i) => i % 256);

let client: Client;
let dev: Platform;
let capsule: Capsule;
let port: CapsulePort;
let ca: string;

beforeAll(async () => {
  [client, dev] = await Promise.all([adminClient(), platform()]);
  ca = await readFile(dev.caCertFile, "utf8");
  capsule = await client.create({ template: "minimal-debian", vcpus: 1, memory_mb: 512 });
  port = await startGuestServer(client, dev, { capsuleId: capsule.id, port: 8000 });
}, BOOT_TIMEOUT_MS);

afterAll(async () => {
  await client.destroy(capsule.id);
}, BOOT_TIMEOUT_MS);

describe("requests", () => {
  test("path, query, method and body arrive as they were sent, the id with and without cl-", async () => {
    const target = "/a//b/../%2e%2E/c/?x=%20&y=[1]";
    const short = port.host.replace("cl-", "");

    for (const host of [port.host, short, `${short.toUpperCase()}:80`]) {
      const head = `PUT ${target} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 2\r\n`;
      const { text } = await rawExchange(dev.ports.cp, `${head}Connection: close\r\n\r\nhi`);
      const echo = JSON.parse(text.slice(text.indexOf("\r\n\r\n")));

      expect([echo.method, echo.target]).toEqual(["PUT", target]);
    }
  });

  test("a shell that sourced the platform's file has what follows the id", async () => {
    const { WRENN_PROXY_DOMAIN: domain } = await sourcedEnv();

    const response = await fetch(`http://8000-${capsule.id}.${domain}/x`);

    expect(JSON.parse(await response.text()).target).toBe("/x");
  });

  test("the server sees its own address as host, and who asked for which host", async () => {
    const echo = await port.echo("/");

    expect(seen(echo, "host")).toMatch(/^10\.11\.\d+\.\d+:8000$/);
    expect(seen(echo, "x-forwarded-host")).toBe(`${port.host}:${dev.ports.cp}`);
    expect(seen(echo, "x-forwarded-proto")).toBe("http");
    expect(seen(echo, "x-forwarded-for")).toBe("127.0.0.1");
  });

  test("the sandbox's headers name the target where the host can't", async () => {
    const headers = { "e2b-sandbox-id": capsule.id, "e2b-sandbox-port": "8000" };

    const byHeader = await fetch(`http://127.0.0.1:${dev.ports.cp}/x`, { headers });
    const byHost = await fetch(
      `http://app.example:${dev.ports.cp}/x`.replace("app.example", "127.0.0.1"),
      {
        headers: { ...headers, host: "app.example" },
      },
    );

    expect(byHeader.status).toBe(200);
    expect(byHost.status).toBe(404);
  });

  test("answers without a body, a redirect and repeated headers come through", async () => {
    const head = await port.fetch("/", { method: "HEAD" });
    const none = await port.fetch("/204");
    const unchanged = await port.fetch("/304");
    const places = ["/next?x", "http://{host}/next?x", "https://example.com/a"];
    const locations = await Promise.all(
      places.map(async (to) =>
        (await port.fetch(`/redirect?to=${encodeURIComponent(to)}`)).headers.get("location"),
      ),
    );

    expect([head.status, head.headers.get("x-echo")]).toEqual([200, "1, 2"]);
    expect([none.status, unchanged.status, unchanged.headers.get("etag")]).toEqual([
      204,
      304,
      '"x"',
    ]);
    expect(locations).toEqual(["/next?x", "/next?x", "https://example.com/a"]);
  });

  test("connections to the server are kept", async () => {
    const first = await port.echo("/");
    const second = await port.echo("/");

    expect(second.connection).toBe(first.connection);
  });

  test("events arrive while they happen", async () => {
    const startedAt = performance.now();
    const response = await port.fetch("/events");
    const times: number[] = [];
    let text = "";
    for await (const piece of response.body ?? []) {
      text += new TextDecoder().decode(piece);
      times.push(performance.now() - startedAt);
    }

    expect(text).toBe([0, 1, 2, 3, 4].map((n) => `data: ${n}\n\n`).join(""));
    expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan(500);
  });
});

describe("bodies", () => {
  const crcOfBulk = () => {
    let crc = 0;
    for (let left = BULK_BYTES; left > 0; left -= BLOCK.length) crc = Bun.hash.crc32(BLOCK, crc);
    return crc;
  };
  const bulk = () => {
    let left = BULK_BYTES;
    return new ReadableStream({
      pull(controller) {
        if (left === 0) controller.close();
        else {
          left -= BLOCK.length;
          controller.enqueue(BLOCK);
        }
      },
    });
  };

  test.each(["", "&chunked"])(
    `${BULK_BYTES} bytes come down whole%s, and the programs stay small`,
    async (how) => {
      const before = await programSizes(dev);
      const response = await port.fetch(`/download?bytes=${BULK_BYTES}${how}`);
      let bytes = 0;
      let crc = 0;
      for await (const piece of response.body ?? []) {
        bytes += piece.length;
        crc = Bun.hash.crc32(piece, crc);
      }
      const after = await programSizes(dev);

      expect([bytes, crc]).toEqual([BULK_BYTES, crcOfBulk()]);
      expect(after.cpMib - before.cpMib).toBeLessThan(GROWTH_MIB_MAX);
      expect(after.agentMib - before.agentMib).toBeLessThan(GROWTH_MIB_MAX);
    },
    isSoak ? SOAK_TIMEOUT_MS : SLOW_TIMEOUT_MS,
  );

  test(
    `${BULK_BYTES} bytes go up whole in chunks, and the programs stay small`,
    async () => {
      const before = await programSizes(dev);
      const response = await port.fetch("/upload", { method: "POST", body: bulk() });
      const received = await response.json();
      const after = await programSizes(dev);

      expect(received).toEqual({ bytes: BULK_BYTES, crc: crcOfBulk() });
      expect(after.cpMib - before.cpMib).toBeLessThan(GROWTH_MIB_MAX);
      expect(after.agentMib - before.agentMib).toBeLessThan(GROWTH_MIB_MAX);
    },
    isSoak ? SOAK_TIMEOUT_MS : SLOW_TIMEOUT_MS,
  );
});

describe("WebSockets", () => {
  test.each(["ws", "wss"])(
    "texts, bytes, protocol and close code pass over %s",
    async (scheme) => {
      const origin = scheme === "ws" ? port.origin : port.secureOrigin;
      const url = `${origin.replace(/^http/, "ws")}/ws`;
      const socket = new WebSocket(url, { protocols: ["chat", "other"], tls: { ca } });
      socket.binaryType = "arraybuffer";
      const received: unknown[] = [];
      const big = Buffer.alloc(1_000_000, "wrenn");
      socket.addEventListener("message", ({ data }) => {
        received.push(typeof data === "string" ? data : Buffer.from(data).equals(big));
        if (received.length === 2) socket.send("close 4321");
      });
      socket.addEventListener("open", () => {
        socket.send("häßlich");
        socket.send(big);
      });
      const [closed] = (await once(socket, "close")) as [CloseEvent];

      expect(received).toEqual(["häßlich", true]);
      expect([socket.protocol, closed.code, closed.reason]).toEqual(["chat", 4321, "as you wish"]);
    },
    60_000,
  );
});

describe("TLS", () => {
  test("HTTP/2 serves the API and ports, many requests over one connection", async () => {
    const session = connectHttp2(port.secureOrigin, { ca });
    const ask = (headers: Record<string, string>, body?: string) =>
      new Promise<[number, string]>((resolve, reject) => {
        const stream = session.request(headers);
        let status = 0;
        let text = "";
        stream.on("response", (head) => {
          status = Number(head[":status"]);
        });
        stream.on("data", (piece: Buffer) => {
          text += piece.toString();
        });
        stream.on("end", () => resolve([status, text]));
        stream.on("error", reject);
        stream.end(body);
      });
    const api = `api.${dev.proxyDomain}:${dev.ports.tls}`;

    const answers = await Promise.all([
      ask({ ":path": "/", ":method": "GET" }),
      ask({ ":path": "/upload", ":method": "POST" }, "x".repeat(100_000)),
      ask({ ":path": "/health", ":method": "GET", ":authority": api }),
      ask({ ":path": "/hostile/reset", ":method": "GET" }).catch(() => "failed"),
    ]);
    session.close();

    const [echo, upload, health, reset] = answers;
    expect(JSON.parse(echo[1]).headers).toContainEqual(["X-Forwarded-Proto", "https"]);
    expect(JSON.parse(upload[1]).bytes).toBe(100_000);
    expect(health[0]).toBe(200);
    expect(reset).toBe("failed");
  });

  test("HTTP/1.1 serves them, too", async () => {
    const response = await fetch(`${port.secureOrigin}/x`, { tls: { ca } });

    expect(JSON.parse(await response.text()).target).toBe("/x");
  });
});
