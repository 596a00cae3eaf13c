// What the program answers to whatever comes on a connection: each answer names its request, and each error
// has the form of the API's, whichever part of the program it is of.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { encodeId, newId } from "../../proto/ids.ts";
import { rawExchange } from "../../tests/harness/raw-http.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { ControlPlaneProgram } from "../../tests/harness/simulated-agent-program.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { AppError, type ErrorCode } from "../errors.ts";

setDefaultTimeout(60_000);

let platform: TestPlatform;
let program: ControlPlaneProgram;
let port: number;
beforeAll(async () => {
  platform = await TestPlatform.start();
  program = await ControlPlaneProgram.start(platform);
  port = Number(new URL(program.url).port);
});
afterAll(async () => {
  await program.end("SIGTERM");
  await platform[Symbol.asyncDispose]();
});

const request = (line: string, ...headers: string[]) =>
  [`${line} HTTP/1.1`, "Host: localhost", "Connection: close", ...headers, "", ""].join("\r\n");
const upgrade = (...headers: string[]) =>
  [
    "GET /v1/capsules/x/pty HTTP/1.1",
    ...["Host: localhost", "Connection: Upgrade", "Upgrade: websocket", ...headers, "", ""],
  ].join("\r\n");
const toPort = (...headers: string[]) => {
  const id = encodeId("capsule", newId("capsule"));
  return request("GET /", ...headers).replace("localhost", `3000-${id}.wrenn.localhost`);
};
const KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/** The one line of the request log about the request of that id. */
async function lineOf(requestId: string | null): Promise<Record<string, unknown>> {
  const find = async () =>
    program.logged
      .split("\n")
      .filter((line) => line.endsWith("}"))
      .map((line): Record<string, unknown> => JSON.parse(line))
      .filter((line) => line.message === "request" && line.requestId === requestId);
  const lines = await waitFor("the request's line", find, { holds: ({ length }) => length > 0 });
  expect(lines.length).toBe(1);
  return lines[0] ?? {};
}

async function ask(bytes: string) {
  const isWhole = (text: string) => {
    const [head = "", body = ""] = text.split("\r\n\r\n");
    const length = /content-length: (\d+)/i.exec(head)?.[1];
    return head.includes(" 101 ") || (length !== undefined && body.length >= Number(length));
  };
  const { text } = await rawExchange(port, Buffer.from(bytes, "latin1"), isWhole);
  const [head = "", ...rest] = text.split("\r\n\r\n");
  const headers = new Headers(
    head
      .split("\r\n")
      .slice(1)
      .map((line) => line.split(/: (.*)/).slice(0, 2) as [string, string]),
  );
  return { status: Number(head.slice(9, 12)), headers, body: rest.join("\r\n\r\n") };
}

test.each<[what: string, bytes: string, status: number, code: ErrorCode]>([
  ["no request line", "nonsense\r\n\r\n", 400, "invalid_request"],
  [
    "a head without end",
    request("GET /health", `A: ${"a".repeat(70_000)}`),
    400,
    "invalid_request",
  ],
  ["a large head", request("GET /health", `A: ${"a".repeat(20_000)}`), 431, "too_large"],
  ["many headers", request("GET /health", ...Array(250).fill("A: a")), 431, "too_large"],
  ["a long path", request(`GET /${"a".repeat(20_000)}`), 431, "too_large"],
  [
    "a body without end",
    request("POST /v1/auth/login", "Content-Length: 99999999999999"),
    413,
    "too_large",
  ],
  [
    "a wrong chunk",
    `${request("POST /v1/auth/login", "Transfer-Encoding: chunked")}zz\r\n`,
    400,
    "invalid_request",
  ],
  ["no host", "GET /health HTTP/1.1\r\n\r\n", 400, "invalid_request"],
  [
    "half an address as host",
    "GET /health HTTP/1.1\r\nHost: [::\r\nConnection: close\r\n\r\n",
    400,
    "invalid_request",
  ],
  [
    "a host with no port",
    "GET /health HTTP/1.1\r\nHost: a:99999\r\nConnection: close\r\n\r\n",
    400,
    "invalid_request",
  ],
  ["no path", request("OPTIONS *"), 400, "invalid_request"],
  [
    "a preflight",
    request("OPTIONS /v1/capsules", "Origin: https://a.b", "Access-Control-Request-Method: POST"),
    404,
    "not_found",
  ],
  ["another method", request("PUT /health", "Content-Length: 0"), 404, "not_found"],
  ["a method of CONNECT", request("CONNECT /health"), 404, "not_found"],
  ["a method that nobody knows", request("BREW /health"), 404, "not_found"],
  ["an unknown path", request("GET /v1/%zz"), 404, "not_found"],
  ["HTTP/1.0", "GET /v1/me HTTP/1.0\r\n\r\n", 401, "unauthorized"],
  ["a WebSocket without a key", upgrade(), 400, "invalid_request"],
  [
    "a WebSocket of another version",
    upgrade(KEY, "Sec-WebSocket-Version: 8"),
    400,
    "invalid_request",
  ],
  [
    "a WebSocket of a foreign page",
    upgrade(KEY, "Sec-WebSocket-Version: 13", "Cookie: wrenn_sid=a", "Origin: https://a.b"),
    403,
    "forbidden",
  ],
])("%s is an error that names its request", async (_, bytes, status, code) => {
  const answer = await ask(bytes);

  const { error } = JSON.parse(answer.body);
  expect([answer.status, error.code]).toEqual([status, code]);
  const { reason, retryable } = new AppError(code, "").toBody().error;
  expect(error).toMatchObject({ retryable, request_id: answer.headers.get("x-request-id") });
  expect([reason, "route_not_found", "origin_not_allowed"]).toContain(error.reason);
  expect(error.request_id).toMatch(/^req_[0-9a-f]{16}$/);
  expect(await lineOf(error.request_id)).toMatchObject({ level: "info", status });
});

test.each([
  ["what succeeds", request("GET /health"), 200],
  ["HEAD", request("HEAD /health"), 200],
  ["HEAD of nothing", request("HEAD /v1/nothing"), 404],
  ["a page", request("GET /docs"), 200],
  ["a WebSocket", upgrade(KEY, "Sec-WebSocket-Version: 13"), 101],
])("%s names its request", async (_, bytes, status) => {
  const answer = await ask(bytes);

  expect(answer.status).toBe(status);
  expect(answer.headers.get("x-request-id")).toMatch(/^req_[0-9a-f]{16}$/);
});

test("a client's own name of a request is kept if it is harmless", async () => {
  const named = (id: string) => [
    request("GET /v1/me", `X-Request-ID: ${id}`),
    request("BREW /", `X-Request-ID: ${id}`),
    toPort(`X-Request-ID: ${id}`),
  ];
  const ids = (requests: string[]) =>
    Promise.all(requests.map(async (bytes) => (await ask(bytes)).headers.get("x-request-id")));

  expect(await ids(named("build-7.a_b"))).toEqual(Array(3).fill("build-7.a_b"));
  for (const harmful of ["<b>", "a b", "x".repeat(65), ""]) {
    const made = await ids(named(harmful));
    expect(made).toEqual(Array(3).fill(expect.stringMatching(/^req_[0-9a-f]{16}$/)));
  }
});

test("a port of no capsule is an error for programs, and a page for people", async () => {
  const script = await ask(toPort());
  const browser = await ask(toPort("Sec-Fetch-Mode: navigate", "Accept: text/html"));

  const id = script.headers.get("x-request-id");
  expect([script.status, JSON.parse(script.body)]).toEqual([
    502,
    {
      sandboxId: expect.stringMatching(/^cl-/),
      message: "The sandbox was not found",
      code: 502,
      request_id: id,
    },
  ]);
  expect(id).toMatch(/^req_/);
  const [about, why] = ["wrenn.localhost", "The sandbox was not found"];
  for (const { headers } of [script, browser]) {
    const line = await lineOf(headers.get("x-request-id"));
    expect(line).toMatchObject({ method: "GET", path: "/", status: 502, why });
    expect(line.host).toEndWith(about);
  }
  expect(browser.headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect(browser.body).toContain(`<small>${browser.headers.get("x-request-id")}</small>`);
});

test("a line about what was refused tells no query, and not more than a client may make it tell", async () => {
  const long = "p".repeat(5000);
  const secret = toPort().replace("GET /", `GET /${long}?wrenn_traffic_token=s3cret`);
  const unread = request("GET /", "A\x00: s3cret");
  const ids = [];
  for (const bytes of [secret, unread]) ids.push((await ask(bytes)).headers.get("x-request-id"));
  const [refused, malformed] = [await lineOf(ids[0] ?? ""), await lineOf(ids[1] ?? "")];

  expect(refused.path).toBe(`/${"p".repeat(199)}`);
  expect(Object.keys(malformed)).toEqual([
    ...["time", "level", "message", "requestId", "status", "why"],
  ]);
  expect(program.logged).not.toContain("s3cret");
});
