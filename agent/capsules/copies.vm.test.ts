// Capsules made from capsules: what was in the memory of one is in that of the others, and no more than that.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { encodeId, newId } from "../../proto/ids.ts";
import { failureOf } from "../../tests/contract/rpc-failure.ts";
import { codeOf, destroyAll, untilDurable, untilStatus } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING, PLATFORM_TEAM } from "../../tests/harness/agent-process.ts";

setDefaultTimeout(300_000);

let agent: AgentProcess;

beforeAll(async () => {
  agent = await AgentProcess.start();
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

async function sourceCapsule(): Promise<string> {
  const id = await agent.create();
  await agent.sh(id, "echo before > /dev/shm/word; echo before > /root/word");
  await agent.client.startBackground({
    sandboxId: id,
    cmd: "/bin/sleep",
    args: ["600"],
    tag: "job",
  });
  return id;
}

const WORDS = "cat /dev/shm/word /root/word";
const NAMES = "cat /proc/sys/kernel/hostname /etc/machine-id";

test("forks begin where their source is, and go ways of their own", async () => {
  const id = await sourceCapsule();
  const children = Array.from({ length: 2 }, (_, i) => ({
    sandboxId: encodeId("capsule", newId("capsule")),
    operationId: crypto.randomUUID(),
    envdAccessToken: `${i}`.repeat(64),
  }));
  // One that cannot be: another operation has its id.
  const taken = { ...children[0], sandboxId: id, operationId: crypto.randomUUID() };

  const request = { sandboxId: id, children: [...children, taken], timeoutSec: 60 };
  const { results } = await agent.client.forkSandbox(request);

  expect(results.map(({ errorCode }) => errorCode)).toEqual(["", "", "already_exists"]);
  const names = new Set<string>();
  for (const { sandboxId } of [...children, { sandboxId: id }]) {
    expect(await agent.sh(sandboxId, WORDS)).toBe("before\nbefore\n");
    await agent.sh(sandboxId, `echo ${sandboxId} > /dev/shm/word; echo ${sandboxId} > /root/word`);
    names.add(await agent.sh(sandboxId, NAMES));
    const { processes } = await agent.client.listProcesses({ sandboxId });
    expect(processes).toMatchObject([{ tag: "job" }]);
  }
  for (const { sandboxId } of [...children, { sandboxId: id }]) {
    expect(await agent.sh(sandboxId, WORDS)).toBe(`${sandboxId}\n${sandboxId}\n`);
  }
  expect(names.size).toBe(3);
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});

test("forks made together share what none of them writes until the last of them ends", async () => {
  const id = await sourceCapsule();
  const children = Array.from({ length: 2 }, (_, i) => ({
    sandboxId: encodeId("capsule", newId("capsule")),
    operationId: crypto.randomUUID(),
    envdAccessToken: `${i}`.repeat(64),
  }));

  await agent.client.forkSandbox({ sandboxId: id, children, timeoutSec: 60 });

  const [first, second] = children.map(({ sandboxId }) => sandboxId);
  if (first === undefined || second === undefined) throw new Error("unreachable: two children");
  const files = await Promise.all(
    [first, second].map(async (child) => {
      const { kind } = await Bun.file(join(agent.dir, "run", child, "memory.json")).json();
      const { ino, nlink } = await stat(join(agent.dir, "snapshots", child, "base", "flat"));
      return { kind, ino, nlink };
    }),
  );
  // With the last of them it is gone.
  expect(files[0]).toMatchObject({ kind: "map", nlink: 2 });
  expect(files[1]).toEqual(files[0]);
  await agent.client.destroySandbox({ sandboxId: first });
  await agent.client.pauseSandbox({ sandboxId: second, operationId: crypto.randomUUID() });
  await untilDurable(agent, second);
  await agent.client.resumeSandbox(agent.resumeRequest(second));
  expect(await agent.sh(second, WORDS)).toBe("before\nbefore\n");
  await destroyAll(agent);
});

test("a snapshot of a running or paused capsule starts others until it is deleted", async () => {
  const id = await sourceCapsule();
  const snapshot = {
    ...agent.operation(id),
    teamId: PLATFORM_TEAM,
    templateId: crypto.randomUUID(),
  };
  const made = await agent.client.createSnapshot(snapshot);
  expect(made).toMatchObject({ vcpus: 1, memoryMb: 256 });
  expect(made.sizeBytes).toBeGreaterThan(0n);
  expect(await agent.sh(id, WORDS)).toBe("before\nbefore\n");
  await agent.client.pauseSandbox(agent.operation(id));
  const { templateId } = snapshot;
  const taken = { ...snapshot, operationId: crypto.randomUUID() };
  expect(await codeOf(agent.client.createSnapshot(taken))).toBe("AlreadyExists");
  expect(await codeOf(agent.client.createSnapshot(snapshot))).toBe("none");
  await agent.client.destroySandbox({ sandboxId: id });

  const request = { ...agent.createRequest(), templateId, vcpus: 2, memoryMb: 512 };
  const other = { ...request, envdAccessToken: "f".repeat(64) };
  const { sandboxId } = await agent.client.createSandbox(other);
  await agent.client.deleteSnapshot({ teamId: PLATFORM_TEAM, templateId });

  expect(await agent.sh(sandboxId, WORDS)).toBe("before\nbefore\n");
  const { sandboxes } = await agent.client.listSandboxes({});
  expect(sandboxes).toMatchObject([{ vcpus: 1, memoryMb: 256 }]);
  const late = { ...agent.createRequest(), templateId };
  const missing = { code: "NotFound", reason: "template" };
  expect(await failureOf(agent.client.createSandbox(late))).toEqual(missing);
  expect(await failureOf(agent.client.createSandbox(late))).toEqual(missing);
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});

// Whatever they were about to read of it.
test("a template that is deleted while capsules start from it is what they miss, if they fail", async () => {
  const id = await sourceCapsule();
  for (const delayMs of [0, 10, 40]) {
    const template = { teamId: PLATFORM_TEAM, templateId: crypto.randomUUID() };
    await agent.client.createSnapshot({ ...agent.operation(id), ...template });
    const { templateId } = template;
    const started = failureOf(agent.client.createSandbox({ ...agent.createRequest(), templateId }));
    await Bun.sleep(delayMs);
    await agent.client.deleteSnapshot(template);

    const { code, reason } = await started;
    expect(["none null", "NotFound template"]).toContain(`${code} ${reason}`);
  }
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});

test("a capsule that nobody uses is paused at the end of its timeout, and says so until it is resumed", async () => {
  const request = { ...agent.createRequest(), timeoutSec: 3 };
  const { sandboxId } = await agent.client.createSandbox(request);
  // A command is activity all along.
  expect(await agent.sh(sandboxId, "sleep 6; echo on")).toBe("on\n");
  await untilStatus(agent, sandboxId, "paused");

  for (let i = 0; i < 2; i += 1) {
    const list = await agent.client.listSandboxes({});
    expect(list.autoPausedSandboxIds).toEqual([sandboxId]);
    expect(list.sandboxes).toMatchObject([{ pauseReason: "ttl_expired" }]);
    await agent.kill();
    await agent.restart();
  }
  await agent.client.resumeSandbox(agent.resumeRequest(sandboxId));

  expect((await agent.client.listSandboxes({})).autoPausedSandboxIds).toEqual([]);
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});
