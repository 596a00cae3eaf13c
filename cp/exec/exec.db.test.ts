import { beforeAll, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { eq } from "drizzle-orm";
import { decodeId, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, hosts } from "../db/tables.ts";

const platform = await forThisFile(TestPlatform.start());
let id: string;

beforeAll(async () => {
  id = await platform.create();
});

function exec(body: Record<string, unknown>, capsule = id) {
  return platform.call("POST", `/v1/capsules/${capsule}/exec`, { body });
}

function sh(script: string, options: Record<string, unknown> = {}) {
  return exec({ cmd: "/bin/sh", args: ["-c", script], ...options });
}

async function setStatus(status: "pending" | "stopping" | "missing" | "running") {
  const capsuleId = decodeId("capsule", id) ?? newId("capsule");
  await platform.database.db.update(capsules).set({ status }).where(eq(capsules.id, capsuleId));
}

test("a command answers its streams, its exit code and its time", async () => {
  const answer = await sh("echo out; echo err >&2; exit 3");

  expect<unknown>(answer).toEqual({
    status: 200,
    body: {
      sandbox_id: id,
      cmd: "/bin/sh",
      stdout: "out\n",
      stderr: "err\n",
      exit_code: 3,
      duration_ms: expect.any(Number),
      encoding: "utf-8",
    },
  });
});

test("environment and working directory of a foreground command are as asked", async () => {
  const answer = await sh('echo "$NAME"; pwd', { envs: { NAME: "wrenn" }, cwd: "/tmp" });

  expect(answer.body.stdout).toBe("wrenn\n/tmp\n");
});

test("output that is no text comes as base64, both streams", async () => {
  const answer = await sh("printf '\\377'; echo plain >&2");

  expect(answer.body).toMatchObject({
    encoding: "base64",
    stdout: "/w==",
    stderr: btoa("plain\n"),
  });
});

test("a byte order mark is part of the output", async () => {
  const answer = await sh("printf '\\357\\273\\277x'");

  expect(answer.body.stdout).toBe("\ufeffx");
});

test("a command past its time answers 504 with what it printed", async () => {
  const answer = await sh("echo before; sleep 60", { timeout_sec: 1 });

  expect<unknown>(answer).toMatchObject({
    status: 504,
    body: {
      error: {
        code: "exec_timeout",
        message: "the command was killed after 1 s",
        stdout: "before\n",
        stderr: "",
        encoding: "utf-8",
        duration_ms: expect.any(Number),
      },
    },
  });
});

test("a client that goes away ends its command, which is no failure of ours", async () => {
  const before = platform.controlPlane.logged.length;
  using server = platform.controlPlane.listen();
  const client = new AbortController();
  const request = fetch(new URL(`/v1/capsules/${id}/exec`, server.url), {
    method: "POST",
    headers: { "x-api-key": platform.team.apiKey },
    body: JSON.stringify({ cmd: "sleep", args: ["300"], timeout_sec: 300 }),
    signal: client.signal,
  }).catch(() => "gone");
  const processes = async () => {
    const { body } = await platform.call("GET", `/v1/capsules/${id}/processes`);
    return (body.processes as unknown[]).length;
  };
  await waitFor("the process", processes, { holds: (count) => count === 1 });

  client.abort();
  await request;

  await waitFor("the end of the process", processes, { holds: (count) => count === 0 });
  const logged = platform.controlPlane.logged.slice(before).join("\n");
  expect(logged).toContain('"code":"client_closed"');
  expect(logged).not.toContain("request failed");
});

test("a background process has a pid and a tag, is listed, and dies by either", async () => {
  const path = `/v1/capsules/${id}/processes`;
  const sleep = { cmd: "sleep", args: ["300"], background: true };
  const tagged = await exec({ ...sleep, tag: "nap" });
  const named = await exec(sleep);

  const listed = await platform.call("GET", path);
  const byTag = await platform.call("DELETE", `${path}/nap?signal=SIGTERM`);
  const byPid = await platform.call("DELETE", `${path}/${named.body.pid}`);

  expect<unknown>(tagged).toEqual({
    status: 202,
    body: { sandbox_id: id, cmd: "sleep", pid: expect.any(Number), tag: "nap" },
  });
  expect(named.body.tag).toMatch(/^proc-[0-9a-f]{8}$/);
  expect<unknown>(listed.body.processes).toEqual([
    { pid: tagged.body.pid, tag: "nap", cmd: "sleep", args: ["300"] },
    { pid: named.body.pid, tag: named.body.tag, cmd: "sleep", args: ["300"] },
  ]);
  expect([byTag.status, byPid.status]).toEqual([204, 204]);
  await waitFor(
    "the end of the process",
    async () => (await platform.call("GET", path)).body.processes,
    { holds: (all) => Bun.deepEquals(all, []) },
  );
});

test("a process that does not exist is not found", async () => {
  const path = `/v1/capsules/${id}/processes`;
  const [byTag, byPid] = [
    await platform.call("DELETE", `${path}/ghost`),
    await platform.call("DELETE", `${path}/4000000`),
  ];

  expect([byTag.status, byTag.body.error.code]).toEqual([404, "not_found"]);
  expect([byPid.status, byPid.body.error.code]).toEqual([404, "not_found"]);
});

test.each([
  [{}, "cmd"],
  [{ cmd: "" }, "cmd"],
  [{ cmd: "a\0b" }, "cmd"],
  [{ cmd: 5 }, "cmd"],
  [{ cmd: "x", args: ["a\0b"] }, "args.0"],
  [{ cmd: "x", args: ["y".repeat(131_072)] }, "args.0"],
  [{ cmd: "x", args: Array(4097).fill("") }, "args"],
  [{ cmd: "x", envs: { "A=B": "c" } }, "envs"],
  [{ cmd: "x", envs: { "": "c" } }, "envs"],
  [{ cmd: "x", envs: { A: 1 } }, "envs.A"],
  [
    {
      cmd: "x",
      envs: Object.fromEntries(
        Array(1025)
          .entries()
          .map(([n]) => [`A${n}`, ""]),
      ),
    },
    "envs",
  ],
  [{ cmd: "x", cwd: "/".repeat(4096) }, "cwd"],
  [{ cmd: "x", user: "root; id" }, "user"],
  [{ cmd: "x", timeout_sec: -1 }, "timeout_sec"],
  [{ cmd: "x", timeout_sec: 86_401 }, "timeout_sec"],
  [{ cmd: "x", background: "yes" }, "background"],
  [{ cmd: "x", background: true, tag: "12" }, "tag"],
  [{ cmd: "x", background: true, tag: "t".repeat(129) }, "tag"],
])("a bad field is refused by name (%#)", async (body, field) => {
  const answer = await exec(body);

  expect([answer.status, answer.body.error.code]).toEqual([400, "invalid_request"]);
  expect(answer.body.error.message).toStartWith(field);
});

test("what the guest refuses about the request is the client's mistake, in the guest's words", async () => {
  const answer = await exec({ cmd: "true", cwd: "/nonexistent" });

  expect<unknown>(answer).toMatchObject({
    status: 400,
    body: { error: { code: "invalid_request", message: "cwd '/nonexistent' does not exist" } },
  });
});

test.each([
  ["404000000", "SIGKILL", 404],
  ["4294967296", "SIGKILL", 400],
  ["0", "SIGKILL", 400],
  ["x", "SIGHUP", 400],
])("killing %p with %s answers %d", async (selector, signal, status) => {
  const path = `/v1/capsules/${id}/processes/${selector}?signal=${signal}`;

  expect((await platform.call("DELETE", path)).status).toBe(status);
});

test("a capsule that does not run refuses every call that needs it to", async () => {
  const path = `/v1/capsules/${id}`;
  for (const status of ["pending", "stopping", "missing"] as const) {
    await setStatus(status);
    const answers = [
      await platform.call("POST", `${path}/ping`),
      await exec({ cmd: "true" }),
      await platform.call("GET", `${path}/processes`),
      await platform.call("DELETE", `${path}/processes/1`),
      await platform.call("POST", `${path}/files/read`, { body: { path: "/x" } }),
      await platform.call("POST", `${path}/files/list`, { body: { path: "/x" } }),
      await platform.call("POST", `${path}/files/mkdir`, { body: { path: "/x" } }),
      await platform.call("POST", `${path}/files/remove`, { body: { path: "/x" } }),
    ];
    expect(answers.map(({ status, body }) => [status, body.error.code])).toEqual(
      answers.map(() => [409, "invalid_state"]),
    );
  }
  await setStatus("running");
});

test("a ping counts as activity", async () => {
  const before = platform.agent.capsules.get(id)?.lastActiveAt ?? 0;
  const long = new Date("2026-01-01T00:00:00Z");
  await platform.database.db.update(capsules).set({ lastActiveAt: long });

  const answer = await platform.call("POST", `/v1/capsules/${id}/ping`);

  const [row] = await platform.database.db.select().from(capsules);
  expect<unknown>(answer).toEqual({ status: 204, body: "" });
  expect(platform.agent.capsules.get(id)?.lastActiveAt).toBeGreaterThanOrEqual(before);
  expect(row?.lastActiveAt?.getTime()).toBeGreaterThan(long.getTime());
});

test("a command counts as activity", async () => {
  // Not written down for each call: this is the first one of this capsule.
  const unused = await platform.create();
  const own = eq(capsules.id, decodeId("capsule", unused) ?? newId("capsule"));
  const long = new Date("2026-01-01T00:00:00Z");
  await platform.database.db.update(capsules).set({ lastActiveAt: long }).where(own);

  await exec({ cmd: "true" }, unused);

  const [row] = await platform.database.db.select().from(capsules).where(own);
  expect(row?.lastActiveAt?.getTime()).toBeGreaterThan(long.getTime());
});

test.each([
  [Code.Internal, undefined, 502, "agent_error"],
  [Code.Unknown, undefined, 502, "agent_error"],
  [Code.DeadlineExceeded, undefined, 502, "agent_error"],
  [Code.Unavailable, "guest", 502, "agent_error"],
  [Code.Unavailable, undefined, 503, "host_unavailable"],
  [Code.NotFound, "capsule", 409, "invalid_state"],
  [Code.FailedPrecondition, undefined, 409, "invalid_state"],
  [Code.PermissionDenied, undefined, 403, "forbidden"],
  [Code.ResourceExhausted, undefined, 413, "too_large"],
  [Code.Unimplemented, undefined, 501, "not_implemented"],
])("the agent's code %d (%p) answers %d %s", async (code, reason, status, expected) => {
  platform.agent.faultBefore("exec", () => {
    throw new ConnectError("detail", code, reason === undefined ? {} : { "wrenn-reason": reason });
  });

  const answer = await exec({ cmd: "true" });

  expect([answer.status, answer.body.error.code]).toEqual([status, expected]);
  if (status >= 500) expect(answer.body.error.message).not.toContain("detail");
});

test("a host that is known not to answer is not asked", async () => {
  await platform.database.db.update(hosts).set({ status: "unreachable" });
  const calls = platform.agent.calls.length;

  const answer = await exec({ cmd: "true" });

  expect([answer.status, answer.body.error.code]).toEqual([503, "host_unavailable"]);
  expect(platform.agent.calls.length).toBe(calls);
  await platform.database.db.update(hosts).set({ status: "online" });
});

test("an agent that is down is a host that does not answer", async () => {
  await using platform = await TestPlatform.start();
  const id = await platform.create();
  await platform.agent.crash();

  const answer = await platform.call("POST", `/v1/capsules/${id}/exec`, { body: { cmd: "true" } });

  expect([answer.status, answer.body.error.code]).toEqual([503, "host_unavailable"]);
});
