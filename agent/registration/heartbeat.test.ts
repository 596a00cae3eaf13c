import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { Log } from "../log.ts";
import { ControlPlane } from "./control-plane.ts";
import { Heartbeat } from "./heartbeat.ts";
import { loadCredentials, retireCredentials, saveCredentials } from "./host-credentials.ts";
import { obtainCredentials } from "./register.ts";

const HOST_ID = `host-${"0".repeat(25)}`;
const FIRST = { host_id: HOST_ID, jwt: "jwt-1", refresh_token: "refresh-1" };

interface Call {
  readonly path: string;
  readonly token: string | null;
  readonly body: Record<string, unknown> | null;
}

let dir: string;
let calls: Call[];
let answer: (call: Call) => Response;
let server: Bun.Server<undefined>;
let lines: string[];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-registration-"));
  calls = [];
  lines = [];
  server = Bun.serve({
    port: 0,
    async fetch(request) {
      const text = await request.text();
      const call = {
        path: new URL(request.url).pathname,
        token: request.headers.get("x-host-token"),
        body: text === "" ? null : JSON.parse(text),
      };
      calls.push(call);
      return answer(call);
    },
  });
});

afterEach(async () => {
  await server.stop(true);
  await rm(dir, { recursive: true });
});

function controlPlane(): ControlPlane {
  return new ControlPlane(`http://127.0.0.1:${server.port}`);
}

function issued(generation: number): Response {
  const token = `jwt-${generation}`;
  return Response.json(
    { host: { id: HOST_ID }, token, refresh_token: `refresh-${generation}` },
    { status: 201 },
  );
}

function refusal(status: number): Response {
  return Response.json({ error: { code: "x", message: `no ${status}` } }, { status });
}

function startHeartbeat(
  options: { onDeleted?: () => void; timing?: { everyMs: number; forgetAfterMs: number } } = {},
): Heartbeat {
  const log = new Log({ level: "info", write: (line) => lines.push(line) });
  const onDeleted = options.onDeleted ?? (() => {});
  const credentials = FIRST;
  return new Heartbeat({
    controlPlane: controlPlane(),
    credentials,
    dir,
    log,
    ...options,
    onDeleted,
  });
}

function deleted(hostId = HOST_ID): Response {
  const error = { code: "not_found", message: "gone", reason: "host_deleted", host_id: hostId };
  return Response.json({ error }, { status: 404 });
}

test("registering trades the token for credentials, which only root can read", async () => {
  answer = () => issued(1);
  const address = "127.0.0.1:50051";

  const options = { controlPlane: controlPlane(), dir, address };
  const credentials = await obtainCredentials({ ...options, token: "once" });

  expect(credentials).toEqual(FIRST);
  expect(calls).toMatchObject([
    { path: "/v1/hosts/register", body: { token: "once", address, arch: "amd64" } },
  ]);
  expect((await stat(join(dir, "host-credentials.json"))).mode & 0o777).toBe(0o600);
  expect(await obtainCredentials({ ...options, token: null })).toEqual(FIRST);
});

test("without a token and without saved credentials the agent says how to get them", async () => {
  const options = { controlPlane: controlPlane(), dir, address: "127.0.0.1:1", token: null };

  expect(obtainCredentials(options)).rejects.toThrow(
    "start the agent once with WRENN_REGISTRATION_TOKEN",
  );
});

test("the token that it registered with may stay in its settings, whatever becomes of the control plane", async () => {
  answer = () => issued(1);
  const options = { controlPlane: controlPlane(), dir, address: "127.0.0.1:1", token: "once" };
  await obtainCredentials(options);
  answer = () => refusal(401);

  expect(await obtainCredentials(options)).toEqual(FIRST);

  expect(calls).toHaveLength(1);
  expect((await stat(join(dir, "registered-with.sha256"))).mode & 0o777).toBe(0o600);
  expect(obtainCredentials({ ...options, token: "another" })).rejects.toThrow("refused (no 401)");
  await retireCredentials(dir);
  expect(obtainCredentials(options)).rejects.toThrow("refused (no 401)");
});

test("a token that was used up is refused with the control plane's reason", async () => {
  answer = () => refusal(401);
  const options = { controlPlane: controlPlane(), dir, address: "127.0.0.1:1", token: "used" };

  expect(obtainCredentials(options)).rejects.toThrow("refused (no 401)");
  expect(await loadCredentials(dir)).toBeNull();
});

test("a file that holds no credentials is named, not overwritten", async () => {
  await writeFile(join(dir, "host-credentials.json"), '{"jwt":1}');

  expect(loadCredentials(dir)).rejects.toThrow("holds no credentials");
});

test("it beats at once, and a refused token is traded for the next", async () => {
  await saveCredentials(dir, FIRST);
  answer = ({ path, token }) => {
    if (path === "/v1/hosts/auth/refresh") return issued(2);
    return token === "jwt-2" ? new Response(null, { status: 204 }) : refusal(401);
  };

  await using _heartbeat = startHeartbeat();
  await waitFor("three calls", () => calls, { holds: (all) => all.length === 3 });

  expect(calls.map(({ path, token }) => [path.split("/").at(-1), token])).toEqual([
    ["heartbeat", "jwt-1"],
    ["refresh", null],
    ["heartbeat", "jwt-2"],
  ]);
  expect(await loadCredentials(dir)).toEqual({
    host_id: HOST_ID,
    jwt: "jwt-2",
    refresh_token: "refresh-2",
  });
});

test("a host that is said to be deleted for long enough is forgotten", async () => {
  answer = () => deleted();
  const { promise, resolve } = Promise.withResolvers<void>();

  const timing = { everyMs: 1, forgetAfterMs: 20 };
  await using _heartbeat = startHeartbeat({ onDeleted: resolve, timing });

  await promise;
  expect(calls.length).toBeGreaterThan(1);
});

// An ingress during a rollout, another server at the address, a database restored from before the host was made.
test.each([
  ["a 404 without a body", () => new Response(null, { status: 404 })],
  ["a 404 of an ingress", () => new Response("default backend - 404", { status: 404 })],
  ["an unknown host", () => refusal(404)],
  ["another host's end", () => deleted(`host-${"1".repeat(25)}`)],
  ["the words with another status", () => new Response(deleted().body, { status: 410 })],
  ["an endless 404", () => new Response("x".repeat(200_000), { status: 404 })],
])("%s is no reason to forget the host", async (_what, response) => {
  answer = response;
  let isForgotten = false;

  const timing = { everyMs: 1, forgetAfterMs: 0 };
  await using _heartbeat = startHeartbeat({ onDeleted: () => (isForgotten = true), timing });
  await waitFor("five calls", () => calls, { holds: (all) => all.length >= 5 });

  expect(isForgotten).toBe(false);
});

test("a host that is known again in between begins its time anew", async () => {
  answer = () => (calls.length % 2 === 0 ? new Response(null, { status: 204 }) : deleted());
  let isForgotten = false;

  const timing = { everyMs: 10, forgetAfterMs: 15 };
  await using _heartbeat = startHeartbeat({ onDeleted: () => (isForgotten = true), timing });
  await waitFor("eight calls", () => calls, { holds: (all) => all.length >= 8 });

  expect(isForgotten).toBe(false);
});

test("credentials of a deleted host are set aside, and the host may register again", async () => {
  await saveCredentials(dir, FIRST);
  await retireCredentials(dir);
  answer = () => issued(2);

  const options = { controlPlane: controlPlane(), dir, address: "127.0.0.1:1" };
  expect(obtainCredentials({ ...options, token: null })).rejects.toThrow(
    "WRENN_REGISTRATION_TOKEN",
  );
  await obtainCredentials({ ...options, token: "once" });

  expect(await Bun.file(join(dir, "host-credentials.json.deleted")).json()).toEqual(FIRST);
  expect((await loadCredentials(dir))?.jwt).toBe("jwt-2");
});

test("an unreachable control plane is noted, and nothing else happens", async () => {
  await server.stop(true);
  let isDeleted = false;

  await using _heartbeat = startHeartbeat({
    onDeleted: () => {
      isDeleted = true;
    },
  });
  await waitFor("a line of the log", () => lines.length > 0);

  expect(lines.map((line) => JSON.parse(line).event)).toEqual(["heartbeat.lost"]);
  expect(isDeleted).toBe(false);
});
