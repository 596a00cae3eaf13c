// Clients that mean harm: each costs envd bounded memory and time, and leaves it answering.
import {
  afterAll,
  afterEach,
  beforeAll,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { runShell } from "./command.ts";
import { type Envd, openEnvd, PACE, processClient } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000 * PACE);

/** What envd may have grown to after everything below; it is under 100 MiB at rest. */
const RSS_KIB_MAX = 300 * 1024;

let envd: Envd;
beforeAll(async () => {
  envd = await openEnvd();
});
afterAll(() => envd[Symbol.asyncDispose]());

afterEach(async () => {
  const { stdout } = await runShell(processClient(envd, "json"), "echo alive");
  expect(stdout.toString()).toBe("alive\n");
  if (envd.pid === null) return;
  const rss = readFileSync(`/proc/${envd.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)?.[1];
  expect(Number(rss)).toBeLessThan(RSS_KIB_MAX);
});

describe("an RPC", () => {
  const post = (
    path: string,
    type: string,
    body: Bun.BodyInit,
    more: Record<string, string> = {},
  ) =>
    fetch(envd.baseUrl + path, {
      method: "POST",
      body,
      headers: { "x-access-token": envd.token, "content-type": type, ...more },
    });
  const frame = (flags: number, length: number, payload: Uint8Array) => {
    const head = Buffer.alloc(5);
    head.writeUInt8(flags);
    head.writeUInt32BE(length, 1);
    return Buffer.concat([head, payload]);
  };

  test("with a malformed message is invalid_argument", async () => {
    const answers = [
      await post("/process.Process/List", "application/json", "{"),
      await post("/process.Process/SendSignal", "application/json", '{"signal":"SIGNAL_SIGHUP"}'),
      await post("/process.Process/SendSignal", "application/json", '{"process":[]}'),
    ];

    const codes = answers.map(async (answer) => {
      const { code } = (await answer.json()) as { code: string };
      return [answer.status, code];
    });
    expect(await Promise.all(codes)).toEqual(answers.map(() => [400, "invalid_argument"]));
  });

  test("with broken frames ends with an error in its stream", async () => {
    const bodies = [
      new Uint8Array(),
      frame(0, 100, Buffer.from("{}")),
      frame(0, 0xffff_ffff, Buffer.from("{}")),
      frame(1, 2, Buffer.from("{}")),
      frame(0xff, 2, Buffer.from("{}")),
      Buffer.concat([frame(0, 2, Buffer.from("{}")), frame(0, 2, Buffer.from("{}"))]),
      crypto.getRandomValues(new Uint8Array(1000)),
    ];
    for (const body of bodies) {
      const response = await post("/process.Process/Start", "application/connect+json", body);
      const text = await response.text();
      expect([response.status, text.includes('{"error":{"code":')]).toEqual([200, true]);
    }
  });

  test("of an unknown type, method, service or timeout is refused", async () => {
    const odd = { "connect-timeout-ms": "soon" };
    const statuses = [
      await post("/process.Process/List", "text/html", "x"),
      await post("/process.Process/Nothing", "application/json", "{}"),
      await post("/nothing.Nothing/List", "application/json", "{}"),
      await post("/process.Process/List", "application/json", "{}", odd),
    ].map(({ status }) => status);

    expect(statuses).toEqual([415, 404, 404, 400]);
  });

  test("with an endless message is cut off", async () => {
    const chunk = new Uint8Array(1024 * 1024).fill(0x20);
    for (const type of ["application/json", "application/connect+json"]) {
      let sent = 0;
      const endless = new ReadableStream({
        pull(controller) {
          sent++;
          controller.enqueue(chunk);
        },
      });
      const path = type === "application/json" ? "/process.Process/List" : "/process.Process/Start";
      const answer = await post(path, type, endless).then(
        (response) => response.text(),
        (error) => String(error),
      );
      expect(answer).toMatch(/resource_exhausted|invalid_argument|reset|closed/i);
      expect(sent).toBeLessThan(200);
    }
  });

  test("many at once are all answered", async () => {
    const answers = Array.from({ length: Math.ceil(1000 / PACE) }, () =>
      post("/process.Process/List", "application/json", "{}").then(({ status }) => status),
    );

    expect(new Set(await Promise.all(answers))).toEqual(new Set([200]));
  });
});

describe("a connection", () => {
  test("that sends garbage or stops half way holds nobody up", async () => {
    const sockets = await Promise.all(
      [
        "\0\xff\x01garbage\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /files?path=/tmp/x HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n",
        "POST /init HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        `GET /health HTTP/1.1\r\nX: ${"y".repeat(1_000_000)}\r\n\r\n`,
        `GET /${"a".repeat(1_000_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
        "GET /health HT",
      ].map(openWith),
    );

    const { status } = await fetch(`${envd.baseUrl}/health`);
    expect(status).toBe(200);
    for (const socket of sockets) socket.destroy();
  });

  async function openWith(text: string): Promise<Socket> {
    const { hostname, port } = new URL(envd.baseUrl);
    const socket = connect({ host: hostname, port: Number(port) });
    socket.on("error", () => {});
    await new Promise<void>((resolve) => socket.once("connect", resolve));
    socket.write(Buffer.from(text, "latin1"));
    return socket;
  }
});

describe("a route", () => {
  test("matches exactly or not at all", async () => {
    const statusOf = async (path: string, method = "GET") => {
      const headers = { "x-access-token": envd.token };
      return (await fetch(envd.baseUrl + path, { method, headers })).status;
    };

    expect([
      await statusOf("/"),
      await statusOf("/files/"),
      await statusOf("/filesystem"),
      await statusOf("/filesX?path=/etc/passwd"),
      await statusOf("/%66iles?path=/etc/passwd"),
      await statusOf("/constructor"),
      await statusOf("/__proto__"),
      await statusOf("/files?path=/etc/passwd", "DELETE"),
      await statusOf("/health", "POST"),
    ]).toEqual([404, 404, 404, 404, 404, 404, 404, 405, 405]);
  });

  test("that needs the token does not answer without it, or with another", async () => {
    const paths = ["/metrics", "/envs", "/process.Process/List", "/filesystem.Filesystem/Stat"];
    const statuses = await Promise.all(
      paths.flatMap((path) =>
        ["", "x", `${envd.token}x`].map(async (token) => {
          const method = path.includes(".") ? "POST" : "GET";
          const headers = token === "" ? {} : { "x-access-token": token };
          return (await fetch(envd.baseUrl + path, { method, headers })).status;
        }),
      ),
    );

    expect(new Set(statuses)).toEqual(new Set([401]));
  });
});
