import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { AccountsPlatform, METRICS_TOKEN } from "../tests/harness/accounts-platform.ts";
import { JSON_BODY_BYTES_MAX } from "./request-body.ts";

let platform: AccountsPlatform;
let base: string;
beforeAll(async () => {
  platform = await AccountsPlatform.start();
  platform.app.listen({ port: 0, hostname: "127.0.0.1" });
  base = `http://127.0.0.1:${platform.app.server?.port}`;
});
afterAll(async () => {
  await platform.app.server?.stop(true);
  await platform[Symbol.asyncDispose]();
});

const login = (
  body: string | Uint8Array<ArrayBuffer> | ReadableStream,
  headers: Record<string, string> = {},
) => fetch(`${base}/v1/auth/login`, { method: "POST", body, headers });
const lastLine = (): unknown => JSON.parse(platform.logged.at(-1) ?? "{}");

/** As metrics count them. */
async function closedRequests(): Promise<number> {
  const headers = { authorization: `Bearer ${METRICS_TOKEN}` };
  const text = await (await fetch(`${base}/metrics`, { headers })).text();
  const line = /_count\{[^}]*route="\/v1\/auth\/login"[^}]*status="499"[^}]*\} (\d+)/.exec(text);
  return Number(line?.[1] ?? 0);
}

test("health tells the version and needs no credentials", async () => {
  const response = await fetch(`${base}/health`);

  expect(response.status).toBe(200);
  expect<unknown>(await response.json()).toEqual({ status: "ok", version: "0.0.0-test" });
});

test.each(["a", "cp", "api:80", "a.b", "[::1]", "localhost", "api.example.com:8080"])(
  "a request to the host %s finds its route",
  async (host) => {
    for (const path of ["/health", "/v1/capsules/cl-x?a=/b"]) {
      const response = await platform.app.handle(new Request(`http://${host}${path}`));
      expect([path, response.status]).toEqual([path, path === "/health" ? 200 : 401]);
    }
  },
);

describe("every request", () => {
  test("is one line in the log, without its query", async () => {
    await fetch(`${base}/health?token=secret`);

    expect(lastLine()).toEqual({
      time: expect.any(String),
      level: "info",
      message: "request",
      requestId: expect.stringMatching(/^req_[0-9a-f]{16}$/),
      method: "GET",
      path: "/health",
      status: 200,
      durationMs: expect.any(Number),
    });
  });

  test("that fails is logged with the status that was sent", async () => {
    await login("{");

    expect(lastLine()).toMatchObject({ path: "/v1/auth/login", status: 400 });
  });

  test.each([
    ["its body with a length", "Content-Length: 100\r\n\r\n{"],
    ["its body in chunks", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"],
  ])("whose client hangs up in %s is no failure of ours", async (_, rest) => {
    const id = crypto.randomUUID();
    const head = `POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: ${id}\r\n${rest}`;
    const closedBefore = await closedRequests();
    const socket = connect({ port: platform.app.server?.port ?? 0, host: "127.0.0.1" });
    socket.write(head);
    while (platform.app.server?.pendingRequests !== 1) await Bun.sleep(5);
    socket.destroy();
    const lines = () => platform.logged.filter((line) => line.includes(id));
    while (!lines().some((line) => line.includes('"message":"request"'))) await Bun.sleep(5);

    const logged = lines().map((line): unknown => JSON.parse(line));
    expect(logged).toMatchObject([
      { level: "info", code: "client_closed" },
      { level: "info", status: 499 },
    ]);
    expect(await closedRequests()).toBe(closedBefore + 1);
  });

  test("keeps its own id when that is harmless, else gets one", async () => {
    const ids = async (id: string) =>
      (await fetch(`${base}/health`, { headers: { "x-request-id": id } })).headers.get(
        "x-request-id",
      );

    expect(await ids("build-7.a")).toBe("build-7.a");
    expect(await ids('a"b')).toMatch(/^req_[0-9a-f]{16}$/);
    expect(await ids("x".repeat(65))).toMatch(/^req_[0-9a-f]{16}$/);
  });

  test.each(["/api/health", "/api/health?x=1", "/health/"])(
    "finds the route at %s",
    async (path) => {
      expect((await fetch(base + path)).status).toBe(200);
    },
  );

  test.each(["/apihealth", "/api/api/health", "/api", "/", "/v1", "/v1/nothing"])(
    "finds no route at %s and is told so as JSON",
    async (path) => {
      const response = await fetch(base + path);
      const { error } = (await response.json()) as { error: { code: string } };

      expect([response.status, error.code]).toEqual([404, "not_found"]);
    },
  );

  test("with another method than the route's finds no route", async () => {
    const response = await fetch(`${base}/health`, { method: "DELETE" });

    expect(response.status).toBe(404);
    expect<unknown>(await response.json()).toMatchObject({
      error: { code: "not_found", message: "no such route: DELETE /health" },
    });
  });

  test("to a HEAD or with a strange method is answered without a failure of ours", async () => {
    const statuses = await Promise.all(
      ["HEAD", "OPTIONS", "TRACE", "PROPFIND"].map(async (method) => {
        const response = await fetch(`${base}/v1/me`, { method }).catch(() => null);
        return response === null || response.status < 500;
      }),
    );

    expect(statuses).toEqual([true, true, true, true]);
  });
});

describe("a body", () => {
  const message = async (response: Response) => {
    const { error } = (await response.json()) as { error: { code: string; message: string } };
    return [response.status, error.code, error.message];
  };

  test.each(["{", "nonsense", '{"a":}', "\u0000", '{"email":"a@b"'])(
    "that is no JSON (%j) is refused",
    async (body) => {
      expect(await message(await login(body))).toEqual([
        400,
        "invalid_request",
        "invalid JSON body",
      ]);
    },
  );

  test("that is no UTF-8 is refused", async () => {
    const body = new Uint8Array([0x22, 0xff, 0xfe, 0x22]);

    expect(await message(await login(body))).toEqual([400, "invalid_request", "invalid JSON body"]);
  });

  test.each(["", "[]", "7", "null", '"text"'])(
    "that is no object (%j) is refused",
    async (body) => {
      const [status, code] = await message(await login(body));

      expect([status, code]).toEqual([400, "invalid_request"]);
    },
  );

  test.each(["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"])(
    "is read as JSON when it says it is %s",
    async (type) => {
      const body = JSON.stringify({ email: "nobody@example.com", password: "whatever" });

      expect((await login(body, { "content-type": type })).status).toBe(401);
    },
  );

  test("may have fields that we don't know", async () => {
    const body = JSON.stringify({ email: "nobody@example.com", password: "x", remember: true });

    expect((await login(body)).status).toBe(401);
  });

  test("of a wrong type is refused, never converted, and never repeated", async () => {
    const body = JSON.stringify({ email: "nobody@example.com", password: 12345678 });

    const answer = await message(await login(body));
    expect(answer).toEqual([400, "invalid_request", "password: expected string"]);
  });

  test("larger than the bound is refused, with a declared length and without", async () => {
    const large = "x".repeat(JSON_BODY_BYTES_MAX + 1);
    const chunked = new ReadableStream({
      start(controller) {
        for (let sent = 0; sent <= JSON_BODY_BYTES_MAX; sent += 65_536) {
          controller.enqueue(new Uint8Array(65_536));
        }
        controller.close();
      },
    });

    const answers = [await message(await login(large)), await message(await login(chunked))];
    expect(answers.map(([status, code]) => [status, code])).toEqual([
      [413, "too_large"],
      [413, "too_large"],
    ]);
  });
});

describe("a failure of ours", () => {
  test("is told to the log and not to the client", async () => {
    const { token } = await platform.person();
    await platform.database.sql`alter table oauth_providers rename to away`;
    const { status, body } = await platform.call("GET", "/v1/me", { token });
    await platform.database.sql`alter table away rename to oauth_providers`;

    expect<unknown>({ status, body }).toMatchObject({
      status: 500,
      body: { error: { code: "internal_error", message: "internal error" } },
    });
    const lines = platform.logged.slice(-2);
    const [failure, request] = lines.map((line) => JSON.parse(line));
    expect(failure.error).toContain("oauth_providers");
    expect(failure.requestId).toBe(request.requestId);
  });
});
