// What every agent answers to the control plane. The same tests run against the simulated agent and
// against a real one, so that what the control plane is tested with is what it meets.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { AgentClient, AgentOfHost } from "../../cp/agents/agent-clients.ts";
import { encodeId, type Id, newId } from "../../proto/ids.ts";
import { agentClients } from "../harness/test-certificates.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";
import { testFileContract } from "./file-contract.ts";
import { testMetricContract } from "./metric-contract.ts";
import { testPauseContract } from "./pause-contract.ts";
import { codeOf, failureOf } from "./rpc-failure.ts";
import { testStreamContract } from "./stream-contract.ts";

export interface AgentUnderTest extends AsyncDisposable {
  /** Of a running agent that has the template, for whoever calls it, whatever host it is. */
  readonly place: AgentOfHost;
  /** Whose agent it is. */
  readonly hostId: Id<"host">;
  /** UUIDs of a base template of the agent. */
  readonly templateId: string;
  readonly templateTeamId: string;
}

const PLATFORM_TEAM = "00000000-0000-0000-0000-000000000000";
/** Emulated microVMs take tens of seconds to start. */
const TEST_TIMEOUT_MS = 180_000;

/** Registers the tests; `start` is called once, before the first of them. */
export function testAgentContract(start: () => Promise<AgentUnderTest>): void {
  let agent: AgentUnderTest;
  let client: AgentClient;
  let id: string;

  setDefaultTimeout(TEST_TIMEOUT_MS);

  beforeAll(async () => {
    agent = await start();
    client = agentClients().at(agent.place);
    id = newSandboxId();
    await client.createSandbox(createRequest(id));
  });

  afterAll(async () => {
    await client.destroySandbox({ sandboxId: id });
    await agent[Symbol.asyncDispose]();
  });

  testStreamContract(() => ({ client, sandboxId: id }));

  function createRequest(sandboxId: string, operationId: string = crypto.randomUUID()) {
    return {
      sandboxId,
      operationId,
      vcpus: 1,
      memoryMb: 256,
      diskSizeMb: 5120,
      timeoutSec: 0,
      teamId: PLATFORM_TEAM,
      templateId: agent.templateId,
      templateTeamId: agent.templateTeamId,
      defaultUser: "root",
      defaultEnv: { WRENN_CONTRACT: "kept" },
      envdAccessToken: "0123456789abcdef".repeat(4),
    };
  }

  async function statusOf(sandboxId: string): Promise<string | undefined> {
    const { sandboxes } = await client.listSandboxes({});
    return sandboxes.find((sandbox) => sandbox.sandboxId === sandboxId)?.status;
  }

  async function sh(script: string, options: { timeoutSec?: number; cwd?: string } = {}) {
    const answer = await client.exec({
      sandboxId: id,
      cmd: "/bin/sh",
      args: ["-c", script],
      ...options,
    });
    return { ...answer, stdout: text(answer.stdout), stderr: text(answer.stderr) };
  }

  test("what is meant for another host is neither done nor answered", async () => {
    const { place, hostId } = agent;
    const own = agentClients().at({ ...place, id: hostId });
    const other = agentClients().at({ ...place, id: newId("host") });
    const sandboxId = newSandboxId();
    const drained = async () => {
      for await (const _ of other.execStream({ sandboxId: id, cmd: "true" })) break;
    };

    const refused = [
      await codeOf(other.listSandboxes({})),
      await codeOf(other.createSandbox(createRequest(sandboxId))),
      await codeOf(other.destroySandbox({ sandboxId: id })),
      await codeOf(drained()),
    ];
    const { sandboxes } = await own.listSandboxes({});

    expect(refused).toEqual(Array(4).fill("Unavailable"));
    expect(sandboxes.map((sandbox) => sandbox.sandboxId)).toEqual([id]);
  });

  test("a created capsule is listed as running, with what it was created with", async () => {
    const { sandboxes } = await client.listSandboxes({});
    const listed = sandboxes.find(({ sandboxId }) => sandboxId === id);

    expect(listed).toMatchObject({ status: "running", vcpus: 1, memoryMb: 256, timeoutSec: 0 });
    expect(listed?.hostIp).toMatch(/^10\.11\.\d+\.\d+$/);
    expect(Number(listed?.createdAtUnix)).toBeGreaterThan(Date.now() / 1000 - 600);
    expect(Object.keys(listed?.metadata ?? {}).toSorted()).toEqual([
      "agent_version",
      "envd_version",
      "kernel_version",
      "vmm",
      "vmm_version",
    ]);
  });

  test("a repeated create of one operation is answered by the first one", async () => {
    const { sandboxes } = await client.listSandboxes({});
    const listed = sandboxes.find(({ sandboxId }) => sandboxId === id);

    const answer = await client.createSandbox(createRequest(id, listed?.operationId));

    expect(answer).toMatchObject({ sandboxId: id, status: "running", hostIp: listed?.hostIp });
  });

  test("a create of an id that another operation created is refused", async () => {
    expect(await codeOf(client.createSandbox(createRequest(id)))).toBe("AlreadyExists");
  });

  test("a create with a malformed id or size is refused and leaves nothing", async () => {
    const sandboxId = newSandboxId();

    expect([
      await codeOf(client.createSandbox({ ...createRequest("cl-no"), sandboxId: "cl-no" })),
      await codeOf(client.createSandbox({ ...createRequest(sandboxId), vcpus: 0 })),
      await codeOf(client.createSandbox({ ...createRequest(sandboxId), memoryMb: 0 })),
      await statusOf(sandboxId),
    ]).toEqual(["InvalidArgument", "InvalidArgument", "InvalidArgument", undefined]);
  });

  test("a create goes on when its caller goes away", async () => {
    const sandboxId = newSandboxId();
    const caller = new AbortController();

    const create = client
      .createSandbox(createRequest(sandboxId), { signal: caller.signal })
      .catch(() => {});
    await waitFor("the capsule", () => statusOf(sandboxId), {
      holds: (status) => status !== undefined,
    });
    caller.abort();
    await create;

    await waitFor("the capsule to run", () => statusOf(sandboxId), {
      holds: (status) => status === "running",
      timeoutMs: GUEST_MS,
    });
    await client.destroySandbox({ sandboxId });
  });

  test("a destroy during a create wins and leaves nothing", async () => {
    const sandboxId = newSandboxId();
    const create = codeOf(client.createSandbox(createRequest(sandboxId)));
    await waitFor("the capsule", () => statusOf(sandboxId), {
      holds: (status) => status !== undefined,
    });

    await client.destroySandbox({ sandboxId });

    expect(await statusOf(sandboxId)).toBeUndefined();
    expect(["Aborted", "none"]).toContain(await create);
    expect(await statusOf(sandboxId)).toBeUndefined();
  });

  test("destroying an unknown capsule succeeds, once or several times at once", async () => {
    const sandboxId = newSandboxId();

    await Promise.all([1, 2, 3].map(() => client.destroySandbox({ sandboxId })));

    expect(await statusOf(sandboxId)).toBeUndefined();
  });

  test("every call about an unknown capsule says that it is the capsule that is missing", async () => {
    const sandboxId = newSandboxId();
    const failures = await Promise.all(
      [
        client.pingSandbox({ sandboxId }),
        client.exec({ sandboxId, cmd: "true" }),
        client.listProcesses({ sandboxId }),
        client.listDir({ sandboxId, path: "/" }),
        client.removePath({ sandboxId, path: "/tmp/x" }),
      ].map(failureOf),
    );

    expect(failures).toEqual(failures.map(() => ({ code: "NotFound", reason: "capsule" })));
  });

  test("a command's streams and exit code come back apart", async () => {
    expect(await sh("echo out; echo err >&2; exit 7")).toMatchObject({
      stdout: "out\n",
      stderr: "err\n",
      exitCode: 7,
      timedOut: false,
    });
  });

  test("output is bytes, whatever they are", async () => {
    const { stdout } = await client.exec({
      sandboxId: id,
      cmd: "/bin/sh",
      args: ["-c", "printf '\\377\\000\\200'"],
    });

    expect([...stdout]).toEqual([255, 0, 128]);
  });

  test("environment and working directory of a command are as asked", async () => {
    const answer = await client.exec({
      sandboxId: id,
      cmd: "/bin/sh",
      args: ["-c", 'echo "$GREETING"; pwd'],
      envs: { GREETING: "grüß dich" },
      cwd: "/tmp",
    });

    expect(text(answer.stdout)).toBe("grüß dich\n/tmp\n");
  });

  test("the template's environment reaches commands, below what they ask for", async () => {
    const command = { sandboxId: id, cmd: "/bin/sh", args: ["-c", 'echo "$WRENN_CONTRACT"'] };

    const own = await client.exec(command);
    const other = await client.exec({ ...command, envs: { WRENN_CONTRACT: "replaced" } });

    expect([text(own.stdout), text(other.stdout)]).toEqual(["kept\n", "replaced\n"]);
  });

  test("ten megabytes of output come back whole", async () => {
    const { stdout } = await client.exec({
      sandboxId: id,
      cmd: "head",
      args: ["-c", "10000000", "/dev/zero"],
    });

    expect(stdout.byteLength).toBe(10_000_000);
  });

  test("more output than an answer holds ends the command", async () => {
    const endless = client.exec({ sandboxId: id, cmd: "yes", timeoutSec: 120 });

    expect(await codeOf(endless)).toBe("ResourceExhausted");
    await waitFor("the end of the process", () => client.listProcesses({ sandboxId: id }), {
      holds: ({ processes }) => processes.length === 0,
      timeoutMs: GUEST_MS,
    });
  });

  test("a missing working directory or user is the caller's mistake", async () => {
    const command = { sandboxId: id, cmd: "true" };

    expect([
      await codeOf(client.exec({ ...command, cwd: "/nonexistent" })),
      await codeOf(client.exec({ ...command, user: "nobody-here" })),
    ]).toEqual(["InvalidArgument", "InvalidArgument"]);
  });

  test("a missing command exits with 127 and says so", async () => {
    const answer = await client.exec({ sandboxId: id, cmd: "/nonexistent/command" });

    expect(answer.exitCode).toBe(127);
    expect(text(answer.stderr)).toContain("/nonexistent/command");
  });

  test("a command past its time is killed with its children and answers what it printed", async () => {
    const answer = await sh("echo before; sleep 300 & sleep 300", { timeoutSec: 1 });

    expect(answer).toMatchObject({ stdout: "before\n", timedOut: true });
    expect(Number(answer.durationMs)).toBeGreaterThanOrEqual(1000);
    expect(await client.listProcesses({ sandboxId: id })).toMatchObject({ processes: [] });
  });

  test("a command ends when its caller goes away", async () => {
    const caller = new AbortController();
    const exec = codeOf(
      client.exec(
        { sandboxId: id, cmd: "sleep", args: ["300"], timeoutSec: 300 },
        { signal: caller.signal },
      ),
    );
    const running = async () => (await client.listProcesses({ sandboxId: id })).processes.length;
    await waitFor("the process", running, { holds: (count) => count === 1, timeoutMs: GUEST_MS });

    caller.abort();

    expect(await exec).toBe("Canceled");
    await waitFor("the end of the process", running, {
      holds: (count) => count === 0,
      timeoutMs: GUEST_MS,
    });
  });

  test("a background process is listed and can be killed by pid and by tag", async () => {
    const start = (tag: string) =>
      client.startBackground({ sandboxId: id, cmd: "sleep", args: ["300"], tag });
    const first = await start("first");
    await start("second");

    const { processes } = await client.listProcesses({ sandboxId: id });
    await client.killProcess({ sandboxId: id, selector: { case: "pid", value: first.pid } });
    await client.killProcess({
      sandboxId: id,
      selector: { case: "tag", value: "second" },
      signal: "SIGTERM",
    });

    expect(processes.find(({ pid }) => pid === first.pid)).toMatchObject({
      tag: "first",
      args: ["300"],
    });
    await waitFor("the end of the process", () => client.listProcesses({ sandboxId: id }), {
      holds: ({ processes }) => processes.length === 0,
      timeoutMs: GUEST_MS,
    });
  });

  test("killing a process that does not exist is not found", async () => {
    const kill = client.killProcess({ sandboxId: id, selector: { case: "tag", value: "ghost" } });

    expect(await failureOf(kill)).toEqual({ code: "NotFound", reason: "process" });
  });

  testPauseContract(() => ({ client, id, teamId: PLATFORM_TEAM, createRequest }));
  testFileContract(() => ({ client, id }));
  testMetricContract(() => ({ client, id }));
}

function newSandboxId(): string {
  return encodeId("capsule", newId("capsule"));
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
