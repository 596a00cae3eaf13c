// What every agent answers to the control plane. The same tests run against the simulated agent and
// against a real one, so that what the control plane is tested with is what it meets.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { type AgentClient, AgentClients } from "../../cp/agents/agent-clients.ts";
import { encodeId, newId } from "../../proto/ids.ts";

export interface AgentUnderTest extends AsyncDisposable {
  /** `ip:port` of a running agent that has the template. */
  readonly address: string;
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
    client = new AgentClients().at(agent.address);
    id = newSandboxId();
    await client.createSandbox(createRequest(id));
  });

  afterAll(async () => {
    await client.destroySandbox({ sandboxId: id });
    await agent[Symbol.asyncDispose]();
  });

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
    await until(async () => (await statusOf(sandboxId)) !== undefined);
    caller.abort();
    await create;

    await until(async () => (await statusOf(sandboxId)) === "running");
    await client.destroySandbox({ sandboxId });
  });

  test("a destroy during a create wins and leaves nothing", async () => {
    const sandboxId = newSandboxId();
    const create = codeOf(client.createSandbox(createRequest(sandboxId)));
    await until(async () => (await statusOf(sandboxId)) !== undefined);

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
    await until(async () => (await running()) === 1);

    caller.abort();

    expect(await exec).toBe("Canceled");
    await until(async () => (await running()) === 0);
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
    await until(async () => {
      return (await client.listProcesses({ sandboxId: id })).processes.length === 0;
    });
  });

  test("killing a process that does not exist is not found", async () => {
    const kill = client.killProcess({ sandboxId: id, selector: { case: "tag", value: "ghost" } });

    expect(await failureOf(kill)).toEqual({ code: "NotFound", reason: "process" });
  });

  test("a file comes back as it was written, in one message and in a stream", async () => {
    const content = new Uint8Array(300_000).map((_, index) => index % 251);

    await client.writeFile({ sandboxId: id, path: "/tmp/whole.bin", content });
    await client.writeFileStream(parts("/tmp/new/streamed.bin", content));

    const streamed: Uint8Array[] = [];
    for await (const { chunk } of client.readFileStream({
      sandboxId: id,
      path: "/tmp/whole.bin",
    })) {
      streamed.push(chunk.slice());
    }
    expect(Bun.deepEquals(await new Blob(streamed.map((c) => c.slice())).bytes(), content)).toBe(
      true,
    );
    const whole = await client.readFile({ sandboxId: id, path: "/tmp/new/streamed.bin" });
    expect(Bun.deepEquals(whole.content, content)).toBe(true);
  });

  test("an empty file is a file", async () => {
    await client.writeFileStream(parts("/tmp/empty", new Uint8Array()));

    expect((await client.readFile({ sandboxId: id, path: "/tmp/empty" })).content.byteLength).toBe(
      0,
    );
  });

  test("a missing file says that it is the file that is missing", async () => {
    const path = "/tmp/absent";
    const failures = await Promise.all(
      [
        client.readFile({ sandboxId: id, path }),
        client.removePath({ sandboxId: id, path }),
        client.listDir({ sandboxId: id, path }),
        drain(client.readFileStream({ sandboxId: id, path })),
      ].map(failureOf),
    );

    expect(failures).toEqual(failures.map(() => ({ code: "NotFound", reason: "file" })));
  });

  test("a directory is made with its parents, once", async () => {
    const path = "/tmp/made/of/parts";

    const { entry } = await client.makeDir({ sandboxId: id, path });

    expect(entry).toMatchObject({ name: "parts", path, type: "directory" });
    expect(await codeOf(client.makeDir({ sandboxId: id, path }))).toBe("AlreadyExists");
  });

  test("a listing goes as deep as asked", async () => {
    await client.writeFile({ sandboxId: id, path: "/tmp/tree/a/b", content: new Uint8Array(3) });

    const names = async (depth: number) =>
      (await client.listDir({ sandboxId: id, path: "/tmp/tree", depth })).entries.map(
        ({ path }) => path,
      );

    expect([await names(0), await names(1), await names(2)]).toEqual([
      ["/tmp/tree/a"],
      ["/tmp/tree/a"],
      ["/tmp/tree/a", "/tmp/tree/a/b"],
    ]);
  });

  test("a directory where a file is needed, or the reverse, is the caller's mistake", async () => {
    await client.writeFile({ sandboxId: id, path: "/tmp/plain", content: new Uint8Array(1) });

    expect([
      await codeOf(client.readFile({ sandboxId: id, path: "/tmp" })),
      await codeOf(client.listDir({ sandboxId: id, path: "/tmp/plain" })),
      await codeOf(client.writeFile({ sandboxId: id, path: "/tmp", content: new Uint8Array(1) })),
    ]).toEqual(["InvalidArgument", "InvalidArgument", "InvalidArgument"]);
  });

  test("removing a directory removes what is in it", async () => {
    await client.writeFile({ sandboxId: id, path: "/tmp/gone/x", content: new Uint8Array(1) });

    await client.removePath({ sandboxId: id, path: "/tmp/gone" });

    expect(await codeOf(client.readFile({ sandboxId: id, path: "/tmp/gone/x" }))).toBe("NotFound");
  });

  async function* parts(path: string, content: Uint8Array) {
    yield { content: { case: "meta" as const, value: { sandboxId: id, path } } };
    for (let start = 0; start < content.byteLength; start += 65_536) {
      yield {
        content: { case: "chunk" as const, value: content.subarray(start, start + 65_536) },
      };
    }
  }
}

function newSandboxId(): string {
  return encodeId("capsule", newId("capsule"));
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return (await failureOf(call)).code;
}

async function failureOf(call: Promise<unknown>) {
  try {
    await call;
    return { code: "none", reason: null };
  } catch (error) {
    const failure = ConnectError.from(error);
    return { code: Code[failure.code] ?? "none", reason: failure.metadata.get("wrenn-reason") };
  }
}

async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream) {
    // Only the failure matters.
  }
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await Bun.sleep(5);
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
