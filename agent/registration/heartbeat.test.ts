import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_IDENTITY } from "../../tests/harness/test-certificates.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { Log } from "../log.ts";
import { ControlPlane } from "./control-plane.ts";
import { Heartbeat } from "./heartbeat.ts";
import { OwnCredentials } from "./host-credentials.ts";
import { obtainCredentials } from "./register.ts";

const HOST_ID = `host-${"0".repeat(25)}`;
const { certPem: cert_pem, keyPem: key_pem, trustedPem: ca_cert_pem } = AGENT_IDENTITY;
const FIRST = {
  ...{ host_id: HOST_ID, jwt: "jwt-1", refresh_token: "refresh-1" },
  ...{ cert_pem, key_pem, ca_cert_pem },
};

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
  const refresh_token = `refresh-${generation}`;
  return Response.json(
    { host: { id: HOST_ID }, token, refresh_token, cert_pem, ca_cert_pem },
    { status: 201 },
  );
}

function refusal(status: number): Response {
  return Response.json({ error: { code: "x", message: `no ${status}` } }, { status });
}

const onDisk = () => Bun.file(join(dir, "host-credentials.json")).json();

async function startHeartbeat(
  options: { onDeleted?: () => void; timing?: { everyMs: number; forgetAfterMs: number } } = {},
): Promise<Heartbeat> {
  const log = new Log({ level: "info", write: (line) => lines.push(line) });
  const onDeleted = options.onDeleted ?? (() => {});
  return new Heartbeat({
    controlPlane: controlPlane(),
    credentials: await OwnCredentials.save(dir, FIRST, "once"),
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

  expect(await onDisk()).toMatchObject({
    ...FIRST,
    key_pem: expect.stringMatching(/^-----BEGIN PRIVATE/),
  });
  const csr = expect.stringMatching(/^-----BEGIN CERTIFICATE REQUEST/);
  expect(calls).toMatchObject([
    { path: "/v1/hosts/register", body: { token: "once", address, arch: "amd64", csr } },
  ]);
  expect(JSON.stringify(calls)).not.toContain("PRIVATE KEY");
  expect((await stat(join(dir, "host-credentials.json"))).mode & 0o777).toBe(0o600);
  const again = await obtainCredentials({ ...options, token: null });
  expect([again.hostId, again.jwt, again.identity()]).toEqual([
    ...[credentials.hostId, credentials.jwt, credentials.identity()],
  ]);
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
  const first = await obtainCredentials(options);
  const { key_pem: key } = await onDisk();
  const before = calls.length;
  answer = () => refusal(401);

  const again = await obtainCredentials(options);

  expect([before, calls.length, again.jwt, again.identity().keyPem]).toEqual([1, 1, "jwt-1", key]);
  expect(JSON.stringify(await onDisk())).not.toContain("once");
  answer = () => issued(2);
  await first.renew(controlPlane());
  answer = () => refusal(401);
  expect((await obtainCredentials(options)).jwt).toBe("jwt-2");
  await expect(obtainCredentials({ ...options, token: "another" })).rejects.toThrow("no 401");
  await first.retire();
  await expect(obtainCredentials(options)).rejects.toThrow("refused (no 401)");
});

test("a token that was used up is refused with the control plane's reason", async () => {
  answer = () => refusal(401);
  const options = { controlPlane: controlPlane(), dir, address: "127.0.0.1:1", token: "used" };

  expect(obtainCredentials(options)).rejects.toThrow("refused (no 401)");
  expect(await OwnCredentials.load(dir)).toBeNull();
});

test("a file that holds no credentials is named, not overwritten", async () => {
  await writeFile(join(dir, "host-credentials.json"), '{"jwt":1}');

  expect(OwnCredentials.load(dir)).rejects.toThrow("holds no credentials");
});

test("it beats at once, and a refused token is traded for the next", async () => {
  answer = ({ path, token }) => {
    if (path === "/v1/hosts/auth/refresh") return issued(2);
    return token === "jwt-2" ? new Response(null, { status: 204 }) : refusal(401);
  };

  await using _heartbeat = await startHeartbeat();
  await waitFor("three calls", () => calls, { holds: (all) => all.length === 3 });

  expect(calls.map(({ path, token }) => [path.split("/").at(-1), token])).toEqual([
    ["heartbeat", "jwt-1"],
    ["refresh", null],
    ["heartbeat", "jwt-2"],
  ]);
  expect(await onDisk()).toMatchObject({ jwt: "jwt-2", refresh_token: "refresh-2" });
});

test("a host that is said to be deleted for long enough is forgotten", async () => {
  answer = () => deleted();
  const { promise, resolve } = Promise.withResolvers<void>();

  const timing = { everyMs: 1, forgetAfterMs: 20 };
  await using _heartbeat = await startHeartbeat({ onDeleted: resolve, timing });

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
  await using _heartbeat = await startHeartbeat({ onDeleted: () => (isForgotten = true), timing });
  await waitFor("five calls", () => calls, { holds: (all) => all.length >= 5 });

  expect(isForgotten).toBe(false);
});

test("a host that is known again in between begins its time anew", async () => {
  answer = () => (calls.length % 2 === 0 ? new Response(null, { status: 204 }) : deleted());
  let isForgotten = false;

  const timing = { everyMs: 10, forgetAfterMs: 15 };
  await using _heartbeat = await startHeartbeat({ onDeleted: () => (isForgotten = true), timing });
  await waitFor("eight calls", () => calls, { holds: (all) => all.length >= 8 });

  expect(isForgotten).toBe(false);
});

test("credentials of a deleted host are set aside, and the host may register again", async () => {
  await (await OwnCredentials.save(dir, FIRST, "once")).retire();
  answer = () => issued(2);

  const options = { controlPlane: controlPlane(), dir, address: "127.0.0.1:1" };
  expect(obtainCredentials({ ...options, token: null })).rejects.toThrow(
    "WRENN_REGISTRATION_TOKEN",
  );
  await obtainCredentials({ ...options, token: "once" });

  const retired = await Bun.file(join(dir, "host-credentials.json.deleted")).json();
  expect(retired).toMatchObject(FIRST);
  expect((await OwnCredentials.load(dir))?.jwt).toBe("jwt-2");
});

test("an unreachable control plane is noted, and nothing else happens", async () => {
  await server.stop(true);
  let isDeleted = false;

  await using _heartbeat = await startHeartbeat({
    onDeleted: () => {
      isDeleted = true;
    },
  });
  await waitFor("a line of the log", () => lines.length > 0);

  expect(lines.map((line) => JSON.parse(line).event)).toEqual(["heartbeat.lost"]);
  expect(isDeleted).toBe(false);
});

test("a certificate is renewed when half its life is over, for a new key", async () => {
  answer = ({ path }) =>
    path === "/v1/hosts/auth/refresh" ? issued(2) : new Response(null, { status: 204 });
  const credentials = await OwnCredentials.save(dir, FIRST, "once");
  const inHours = (hours: number) => new Date(Date.now() + hours * 3_600_000);

  const isDue = [-720, -2, 0, 11, 13, 720].map((hours) => credentials.isDue(inHours(hours)));
  await credentials.renew(controlPlane());
  // Not over and over by a clock that is wrong.
  const isDueAgain = [-720, 0, 13, 720].map((hours) => credentials.isDue(inHours(hours)));

  expect(isDue).toEqual([true, true, false, false, true, true]);
  expect(isDueAgain).toEqual([false, false, false, false]);
  const { key_pem: key, asked } = await onDisk();
  expect([key === FIRST.key_pem, asked]).toEqual([false, undefined]);
  expect(credentials.identity().keyPem).toBe(key);
});

// The control plane may have taken the token: it gives another answer to the same request only.
test("a renewal whose answer was lost is asked for again with the same key, after a restart too", async () => {
  answer = () => refusal(502);
  const first = await OwnCredentials.save(dir, FIRST, "once");
  await first.renew(controlPlane()).catch(() => {});
  await first.renew(controlPlane()).catch(() => {});
  const asked = (await onDisk()).asked;
  const isSameStill = first.identity().keyPem === FIRST.key_pem;

  answer = () => issued(2);
  const second = await OwnCredentials.load(dir);
  await second?.renew(controlPlane());

  expect(isSameStill).toBe(true);
  expect(new Set(calls.map(({ body }) => body?.csr))).toEqual(new Set([asked.csr]));
  expect(second?.identity().keyPem).toBe(asked.key_pem);
});

test("an agent of the time before certificates gets one before it serves", async () => {
  const { host_id, jwt, refresh_token } = FIRST;
  const before = JSON.stringify({ host_id, jwt, refresh_token });
  await writeFile(join(dir, "host-credentials.json"), before);
  const options = { controlPlane: controlPlane(), dir, address: "127.0.0.1:1", token: null };

  answer = () => refusal(401);
  await expect(obtainCredentials(options)).rejects.toThrow("no certificate was given (no 401)");
  answer = () => issued(2);
  const credentials = await obtainCredentials(options);

  expect(credentials.identity().certPem).toBe(cert_pem);
});
