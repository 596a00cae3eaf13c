// Requests that meet one another on a capsule. The agent is stopped at a step of the first, so that the others are
// there when it goes on.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  arm,
  codeOf,
  infoOf,
  pauseDurably,
  resume,
  untilDurable,
  untilNone,
  untilStatus,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING, PLATFORM_TEAM } from "../../tests/harness/agent-process.ts";
import { EXPIRY_CHECK_MS } from "../limits.ts";

setDefaultTimeout(300_000);

let agent: AgentProcess;

beforeAll(async () => {
  agent = await AgentProcess.start();
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

async function expectNothing(): Promise<void> {
  await untilNone(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
}

test("a destroy ends a resume whose guest is just coming up, and leaves nothing", async () => {
  const id = await agent.create();
  await pauseDurably(agent, id);
  await arm(agent, "resume.after-boot:stop");
  const resuming = codeOf(resume(agent, id));
  await agent.stopped();

  const destroying = codeOf(agent.client.destroySandbox({ sandboxId: id }));
  agent.goOn();

  expect(await Promise.all([resuming, destroying])).toEqual(["Aborted", "none"]);
  await expectNothing();
});

test("a destroy ends a capsule whose resume waits for its sealing, and nothing brings it back", async () => {
  const id = await agent.create();
  await arm(agent, "pause.after-paused:stop");
  const pausing = codeOf(agent.client.pauseSandbox(agent.operation(id)));
  await agent.stopped();

  const resuming = codeOf(resume(agent, id, "disk"));
  agent.goOn();
  await infoOf(agent, id);
  const destroying = codeOf(agent.client.destroySandbox({ sandboxId: id }));

  expect(await Promise.all([pausing, destroying])).toEqual(["none", "none"]);
  expect(["Aborted", "FailedPrecondition", "NotFound"]).toContain(await resuming);
  await expectNothing();
});

test("what is used again while a snapshot is made of it is not paused behind that", async () => {
  const source = await agent.create();
  await pauseDurably(agent, source);
  await arm(agent, "capture.after-draft:stop");
  await agent.client.resumeSandbox({ ...agent.resumeRequest(source), timeoutSec: 1 });
  const ids = { teamId: PLATFORM_TEAM, templateId: crypto.randomUUID() };
  const snapshot = { ...agent.operation(source), ...ids };
  const capturing = codeOf(agent.client.createSnapshot(snapshot));
  await agent.stopped();
  // By the agent's clocks nobody has used it for its timeout now, and it is time to look.
  await Bun.sleep(1.5 * EXPIRY_CHECK_MS);

  agent.goOn();
  const used = await agent.sh(source, "sleep 3; echo on");

  expect([used, await capturing]).toEqual(["on\n", "none"]);
  expect((await infoOf(agent, source))?.pauseReason).toBe("");
  await untilStatus(agent, source, "paused");
  expect((await infoOf(agent, source))?.pauseReason).toBe("ttl_expired");
  await agent.client.deleteSnapshot(snapshot);
  await agent.client.destroySandbox({ sandboxId: source });
  await expectNothing();
});

test("a pause that fails has let the guest run on before another one can begin", async () => {
  const id = await agent.create();
  await arm(agent, "pause.after-stop:fail");

  for (let round = 0; round < 3; round++) {
    const codes = await Promise.all(
      [1, 2, 3].map(() => codeOf(agent.client.pauseSandbox(agent.operation(id)))),
    );
    expect(codes).toEqual(["Internal", "Internal", "Internal"]);
    expect(await agent.sh(id, "echo on")).toBe("on\n");
  }
  expect(await agent.statuses()).toEqual({ [id]: "running" });

  await arm(agent);
  await agent.client.destroySandbox({ sandboxId: id });
  await expectNothing();
});

test("a memory that was lost before it was durable is never said to be, and the disk is what comes back", async () => {
  const id = await agent.create();
  await agent.sh(id, "echo kept > /root/word; sync");
  await arm(agent, "pause.after-paused:stop");
  const pausing = codeOf(agent.client.pauseSandbox(agent.operation(id)));
  await agent.stopped();
  process.kill((await agent.pids(id)).pid, "SIGKILL");
  agent.goOn();
  expect(await pausing).toBe("none");
  await arm(agent);

  const info = await infoOf(agent, id);
  expect([info?.status, info?.durableAtUnix]).toEqual(["paused", 0n]);
  expect(info?.reason).toContain("lost");
  expect(await codeOf(resume(agent, id, "memory"))).toBe("FailedPrecondition");
  const request = agent.resumeRequest(id);
  expect((await agent.client.resumeSandbox(request)).resumedFrom).toBe("disk");

  // Whoever asks again hears what it was, and so from the next agent.
  expect((await agent.client.resumeSandbox(request)).resumedFrom).toBe("disk");
  expect(await resume(agent, id)).toBe("disk");
  await agent.kill();
  await agent.restart();
  expect((await agent.client.resumeSandbox(request)).resumedFrom).toBe("disk");
  expect(await agent.sh(id, "cat /root/word")).toBe("kept\n");
  await agent.client.pauseSandbox(agent.operation(id));
  await untilDurable(agent, id);
  expect(await resume(agent, id)).toBe("memory");
  await agent.client.destroySandbox({ sandboxId: id });
  await expectNothing();
});
