// What every agent answers about pausing, resuming, snapshots and forks.

import { expect, test } from "bun:test";
import type { AgentClient } from "../../cp/agents/agent-clients.ts";
import { encodeId, newId } from "../../proto/ids.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";
import { codeOf, failureOf } from "./rpc-failure.ts";

export interface PausesUnderTest {
  readonly client: AgentClient;
  /** A running capsule, which runs again after each test. */
  readonly id: string;
  readonly teamId: string;
  createRequest(sandboxId: string): { readonly sandboxId: string };
}

/** Registers the tests; `subject` is called within them. */
export function testPauseContract(subject: () => PausesUnderTest): void {
  const operation = (sandboxId: string) => ({ sandboxId, operationId: crypto.randomUUID() });

  async function listed(sandboxId: string) {
    const { sandboxes } = await subject().client.listSandboxes({});
    return sandboxes.find((sandbox) => sandbox.sandboxId === sandboxId);
  }

  function resumeRequest(sandboxId: string) {
    const settings = { defaultUser: "root", defaultEnv: { WRENN_CONTRACT: "kept" } };
    return { ...operation(sandboxId), ...settings, envdAccessToken: "0123456789abcdef".repeat(4) };
  }

  test("a paused capsule is listed as such, refuses work, and runs again with its files", async () => {
    const { client, id } = subject();
    await client.writeFile({ sandboxId: id, path: "/root/kept", content: bytes("kept") });

    await client.pauseSandbox(operation(id));
    const paused = await listed(id);
    const refused = await codeOf(client.exec({ sandboxId: id, cmd: "true" }));
    const resumed = await client.resumeSandbox(resumeRequest(id));
    const { content } = await client.readFile({ sandboxId: id, path: "/root/kept" });

    expect(paused).toMatchObject({ status: "paused", pauseReason: "requested" });
    expect(refused).toBe("FailedPrecondition");
    expect(resumed).toMatchObject({ sandboxId: id, status: "running", resumedFrom: "memory" });
    expect(resumed.hostIp).toMatch(/^10\.11\.\d+\.\d+$/);
    expect(text(content)).toBe("kept");
    expect(await listed(id)).toMatchObject({
      status: "running",
      pauseReason: "",
      durableAtUnix: 0n,
    });
  });

  test("a pause becomes durable by itself, and is resumed from memory then too", async () => {
    const { client, id } = subject();
    await client.pauseSandbox(operation(id));

    await waitFor("a durable capsule", () => listed(id), {
      holds: (info) => (info?.durableAtUnix ?? 0n) > 0n,
      timeoutMs: GUEST_MS,
    });
    const resumed = await client.resumeSandbox(resumeRequest(id));

    expect(resumed.resumedFrom).toBe("memory");
  });

  test("pausing what is paused and resuming what runs succeed and change nothing", async () => {
    const { client, id } = subject();
    await client.resumeSandbox(resumeRequest(id));

    await client.pauseSandbox(operation(id));
    await client.pauseSandbox(operation(id));
    const paused = await listed(id);
    await client.resumeSandbox(resumeRequest(id));
    await client.resumeSandbox(resumeRequest(id));

    expect([paused?.status, (await listed(id))?.status]).toEqual(["paused", "running"]);
  });

  test("pausing and resuming an unknown capsule say that it is missing", async () => {
    const { client } = subject();
    const unknown = encodeId("capsule", newId("capsule"));

    const failures = await Promise.all(
      [client.pauseSandbox(operation(unknown)), client.resumeSandbox(resumeRequest(unknown))].map(
        failureOf,
      ),
    );

    expect(failures).toEqual(failures.map(() => ({ code: "NotFound", reason: "capsule" })));
  });

  test("two pauses at once are one, and so are two resumes of one operation", async () => {
    const { client, id } = subject();

    const pauses = await Promise.all(
      [operation(id), operation(id)].map((request) => codeOf(client.pauseSandbox(request))),
    );
    const paused = await listed(id);
    const request = resumeRequest(id);
    const resumes = await Promise.all([
      client.resumeSandbox(request),
      client.resumeSandbox(request),
    ]);

    expect([pauses, paused?.status]).toEqual([["none", "none"], "paused"]);
    expect(resumes.map(({ status }) => status)).toEqual(["running", "running"]);
    expect(resumes[1]?.hostIp).toBe(resumes[0]?.hostIp ?? "");
  });

  // What is on the way may send a call twice, and the second one late.
  test("a pause and a resume that have ended are not begun again", async () => {
    const { client, id } = subject();
    const pause = operation(id);
    const resume = resumeRequest(id);
    await client.pauseSandbox(pause);
    await client.resumeSandbox(resume);

    const paused = await codeOf(client.pauseSandbox(pause));
    const runs = (await listed(id))?.status;
    await client.pauseSandbox(operation(id));
    const resumed = await codeOf(client.resumeSandbox(resume));
    const rests = (await listed(id))?.status;
    await client.resumeSandbox(resumeRequest(id));

    expect([paused, runs, resumed, rests]).toEqual(["Aborted", "running", "Aborted", "paused"]);
  });

  test("what reads a process at a pause is told, and the process is there after it", async () => {
    const { client, id } = subject();
    const script = "while :; do echo tick; sleep 0.1; done";
    const request = { sandboxId: id, cmd: "/bin/sh", args: ["-c", script], tag: "rested" };
    await client.startBackground(request);
    const selector = { case: "tag", value: "rested" } as const;
    const ended = codeOf(toEnd(client.connectProcess({ sandboxId: id, selector })));
    await firstOutput(client.connectProcess({ sandboxId: id, selector }));

    await client.pauseSandbox(operation(id));
    const code = await ended;
    await client.resumeSandbox(resumeRequest(id));
    await firstOutput(client.connectProcess({ sandboxId: id, selector }));
    await client.killProcess({ sandboxId: id, selector, signal: "SIGKILL" });

    expect(code).toBe("FailedPrecondition");
  });

  test("a paused capsule gives a snapshot, and stays paused", async () => {
    const { client, id, teamId } = subject();
    await client.pauseSandbox(operation(id));
    const templateId = crypto.randomUUID();

    const request = { sandboxId: id, teamId, templateId, operationId: templateId };
    const made = await client.createSnapshot(request);
    const status = (await listed(id))?.status;
    await client.deleteSnapshot({ teamId, templateId });
    await client.resumeSandbox(resumeRequest(id));

    expect([made.vcpus, made.memoryMb, status]).toEqual([1, 256, "paused"]);
  });

  test("a resume without memory starts from the disk", async () => {
    const { client, id } = subject();
    await client.exec({ sandboxId: id, cmd: "sync" });
    await client.pauseSandbox(operation(id));

    const resumed = await client.resumeSandbox({ ...resumeRequest(id), from: "disk" });

    expect(resumed).toMatchObject({ status: "running", resumedFrom: "disk" });
    expect((await listed(id))?.status).toBe("running");
  });

  test("snapshots and forks of an unknown capsule say that it is missing", async () => {
    const { client, teamId } = subject();
    const sandboxId = encodeId("capsule", newId("capsule"));
    const templateId = crypto.randomUUID();

    const failures = await Promise.all(
      [
        client.createSnapshot({ sandboxId, teamId, templateId, operationId: templateId }),
        client.forkSandbox({ sandboxId, children: [child()], timeoutSec: 0 }),
      ].map(failureOf),
    );

    expect(failures).toEqual(failures.map(() => ({ code: "NotFound", reason: "capsule" })));
  });

  test("a capsule starts from a snapshot with the source's files, which goes on", async () => {
    const { client, id, teamId, createRequest } = subject();
    await client.writeFile({ sandboxId: id, path: "/root/kept", content: bytes("snapshot") });
    const templateId = crypto.randomUUID();
    const request = { sandboxId: id, teamId, templateId, operationId: templateId };
    const made = await client.createSnapshot(request);
    const again = await client.createSnapshot(request);
    const child = encodeId("capsule", newId("capsule"));

    const template = { teamId, templateId, templateTeamId: teamId };
    await client.createSandbox({ ...createRequest(child), ...template });
    await client.deleteSnapshot({ teamId, templateId });
    await client.deleteSnapshot({ teamId, templateId });
    const { content } = await client.readFile({ sandboxId: child, path: "/root/kept" });
    await client.destroySandbox({ sandboxId: child });
    const late = encodeId("capsule", newId("capsule"));
    const failure = await failureOf(client.createSandbox({ ...createRequest(late), ...template }));

    expect(failure).toEqual({ code: "NotFound", reason: "template" });
    expect(await listed(late)).toBeUndefined();
    expect(made).toMatchObject({ vcpus: 1, memoryMb: 256 });
    expect(Number(made.sizeBytes)).toBeGreaterThan(0);
    expect(again).toMatchObject({ vcpus: 1, memoryMb: 256 });
    expect(text(content)).toBe("snapshot");
    expect((await listed(id))?.status).toBe("running");
  });

  test("what is asked of a capsule at once is done one after the other", async () => {
    const { client, id, teamId } = subject();
    const snapshot = (templateId: string) =>
      client.createSnapshot({ sandboxId: id, teamId, templateId, operationId: templateId });
    const [first, second, third] = [1, 2, 3].map(() => crypto.randomUUID());
    if (!first || !second || !third) throw new Error("unreachable");

    const codes = await Promise.all(
      [snapshot(first), client.pauseSandbox(operation(id)), snapshot(second)].map(codeOf),
    );
    const paused = await listed(id);
    const more = await Promise.all(
      [client.resumeSandbox(resumeRequest(id)), snapshot(third)].map(codeOf),
    );
    const running = await listed(id);
    for (const templateId of [first, second, third]) {
      await client.deleteSnapshot({ teamId, templateId });
    }

    expect([codes, paused?.status]).toEqual([["none", "none", "none"], "paused"]);
    expect([more, running?.status]).toEqual([["none", "none"], "running"]);
  });

  test("of several that wait for the same each has its turn", async () => {
    const { client, id, teamId } = subject();
    const ids = [1, 2, 3, 4].map(() => crypto.randomUUID());
    const made = ids.map((templateId) =>
      codeOf(client.createSnapshot({ sandboxId: id, teamId, templateId, operationId: templateId })),
    );

    const paused = await codeOf(client.pauseSandbox(operation(id)));
    const codes = await Promise.all(made);
    await client.resumeSandbox(resumeRequest(id));
    for (const templateId of ids) await client.deleteSnapshot({ teamId, templateId });

    expect([paused, codes]).toEqual(["none", ["none", "none", "none", "none"]]);
  });

  test("a delete of a snapshot that is being made leaves nothing of it", async () => {
    const { client, id, teamId, createRequest } = subject();
    const templateId = crypto.randomUUID();
    const making = codeOf(
      client.createSnapshot({ sandboxId: id, teamId, templateId, operationId: templateId }),
    );

    await client.deleteSnapshot({ teamId, templateId });
    await making;
    await client.deleteSnapshot({ teamId, templateId });
    const child = encodeId("capsule", newId("capsule"));
    const template = { teamId, templateId, templateTeamId: teamId };
    const started = await failureOf(client.createSandbox({ ...createRequest(child), ...template }));

    expect(started).toEqual({ code: "NotFound", reason: "template" });
    expect(await listed(child)).toBeUndefined();
  });

  test("a snapshot that arrives after its delete is refused, and is not there", async () => {
    const { client, id, teamId, createRequest } = subject();
    const templateId = crypto.randomUUID();
    await client.deleteSnapshot({ teamId, templateId });

    const made = await codeOf(
      client.createSnapshot({ sandboxId: id, teamId, templateId, operationId: templateId }),
    );

    const child = encodeId("capsule", newId("capsule"));
    const template = { teamId, templateId, templateTeamId: teamId };
    const started = await failureOf(client.createSandbox({ ...createRequest(child), ...template }));
    expect([made, started.code, started.reason]).toEqual(["Aborted", "NotFound", "template"]);
    expect((await listed(id))?.status).toBe("running");
  });

  test("forks run with the source's files, each with its own outcome", async () => {
    const { client, id } = subject();
    await client.writeFile({ sandboxId: id, path: "/root/kept", content: bytes("forked") });
    const children = [child(), child()];

    const { results } = await client.forkSandbox({ sandboxId: id, children, timeoutSec: 0 });
    const contents = [];
    for (const { sandboxId } of children) {
      contents.push(text((await client.readFile({ sandboxId, path: "/root/kept" })).content));
      await client.destroySandbox({ sandboxId });
    }

    expect(results.map(({ errorCode }) => errorCode)).toEqual(["", ""]);
    expect(results.map(({ sandboxId }) => sandboxId).toSorted()).toEqual(
      children.map(({ sandboxId }) => sandboxId).toSorted(),
    );
    expect(contents).toEqual(["forked", "forked"]);
    expect((await listed(id))?.status).toBe("running");
  });
}

function child() {
  return {
    sandboxId: encodeId("capsule", newId("capsule")),
    envdAccessToken: "fedcba9876543210".repeat(4),
    operationId: crypto.randomUUID(),
  };
}

async function toEnd(events: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of events);
}

/** Reads until the process has printed something. */
async function firstOutput(
  events: AsyncIterable<{ event: { case: string | undefined } }>,
): Promise<void> {
  for await (const { event } of events) if (event.case === "data") return;
}

function bytes(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}

function text(content: Uint8Array): string {
  return new TextDecoder().decode(content);
}
