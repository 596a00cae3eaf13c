// What the agent tells of a real capsule: a busy one is busy, and what it takes is seen.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { untilStatus } from "../../tests/harness/agent-calls.ts";
import { AgentProcess } from "../../tests/harness/agent-process.ts";
import { processorShare } from "../../tests/harness/processor-share.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

const MIB = 1024 * 1024;

/** Emulated guests on a machine that does much else. */
setDefaultTimeout(300_000);

let agent: AgentProcess;
let sandboxId: string;
beforeAll(async () => {
  agent = await AgentProcess.start();
  ({ sandboxId } = await agent.client.createSandbox({ ...agent.createRequest(), vcpus: 2 }));
});
afterAll(() => agent[Symbol.asyncDispose]());

const metrics = async () =>
  (await agent.client.getSandboxMetrics({ sandboxId, range: "5m" })).points;

/** The next point that fits; waits for it. */
async function pointWhere(fits: (point: Awaited<ReturnType<typeof metrics>>[number]) => boolean) {
  const look = async () => (await metrics()).at(-1);
  const holds = (last: Awaited<ReturnType<typeof look>>) => last !== undefined && fits(last);
  const last = await waitFor("a point that fits", look, { holds, timeoutMs: GUEST_MS });
  if (last === undefined) throw new Error("unreachable: undefined does not hold");
  return last;
}

/** The next point that tells most of what the VMM had of its two processors, and at least so much. */
async function busyPoint(hadPctMin: number) {
  const { pid } = await agent.pids(sandboxId);
  const look = async () => {
    const hadPct = await processorShare(pid, 2);
    return { hadPct, cpuPct: (await metrics()).at(-1)?.cpuPct ?? 0 };
  };
  return await waitFor("a busy point", look, {
    holds: ({ hadPct, cpuPct }) => hadPct > hadPctMin && cpuPct > 0.8 * hadPct,
    timeoutMs: GUEST_MS,
  });
}

const background = (cmd: string, args: string[], tag: string) =>
  agent.client.startBackground({ sandboxId, cmd, args, tag });
const kill = (tag: string) =>
  agent.client.killProcess({ sandboxId, selector: { case: "tag", value: tag } });

test("an idle capsule with memory and a disk tells little use of processors", async () => {
  const { memBytes, diskBytes } = await pointWhere(({ cpuPct }) => cpuPct < 25);

  expect(Number(memBytes)).toBeGreaterThan(32 * MIB);
  expect(Number(diskBytes)).toBeGreaterThan(32 * MIB);
});

test("one busy processor of two is half of the capsule's use, for an agent that adopted it, too", async () => {
  await background("sh", ["-c", "while :; do :; done"], "one");
  const seen = await busyPoint(10);
  await agent.kill();
  await agent.restart();
  const adopted = await busyPoint(10);
  await kill("one");

  // A VMM has other threads than those of its processors; taken for one processor it would be 100.
  expect(seen.cpuPct).toBeLessThan(80);
  expect(adopted.cpuPct).toBeLessThan(80);
});

test("as many busy loops as processors use nearly all of them", async () => {
  await background("sh", ["-c", "while :; do :; done"], "first");
  await background("sh", ["-c", "while :; do :; done"], "second");

  const busy = await busyPoint(20);
  await kill("first");
  await kill("second");

  expect(busy.cpuPct).toBeLessThanOrEqual(100);
});

test("memory that the guest fills is the host's", async () => {
  const before = await pointWhere(() => true);
  await background("python3", ["-c", `x = b"x" * (64 << 20); input()`], "memory");

  const after = await pointWhere(({ memBytes }) => Number(memBytes - before.memBytes) > 60 * MIB);

  expect(Number(after.memBytes)).toBeLessThan(512 * MIB);
});

test("what the guest writes to its disk is allocated on the host", async () => {
  const before = await pointWhere(() => true);
  await agent.sh(sandboxId, "head -c 16777216 /dev/urandom > /root/written; sync");

  const after = await pointWhere(
    ({ diskBytes }) => Number(diskBytes - before.diskBytes) > 15 * MIB,
  );

  expect(Number(after.diskBytes - before.diskBytes)).toBeLessThan(64 * MIB);
});

test("a capsule whose VMM died has no metrics, and the agent goes on telling of others", async () => {
  const { pid } = await agent.pids(sandboxId);
  process.kill(pid, "SIGKILL");
  await untilStatus(agent, sandboxId, "error");
  const failure = await metrics().catch((error: unknown) => String(error));
  ({ sandboxId } = await agent.client.createSandbox(agent.createRequest()));

  expect(failure).toContain("failed_precondition");
  expect((await pointWhere(() => true)).cpuPct).toBeGreaterThanOrEqual(0);
});

test("what it sends is counted once, through agents that are replaced, a pause and a resume", async () => {
  const sent = async () => {
    const { sandboxes } = await agent.client.listSandboxes({});
    return Number(sandboxes.find((each) => each.sandboxId === sandboxId)?.sentBytes ?? 0n);
  };
  const atLeast = (bytes: number) =>
    waitFor("what it has sent", sent, { holds: (now) => now >= bytes, timeoutMs: GUEST_MS });
  const send = async () => {
    const before = await sent();
    await agent.client.readFile({ sandboxId, path: "/tmp/sent" });
    return await atLeast(before + 4 * MIB);
  };
  const script = "head -c 4194304 /dev/urandom > /tmp/sent";
  await agent.client.exec({ sandboxId, cmd: "sh", args: ["-c", script], timeoutSec: 60 });

  const first = await sent();
  const second = await send();
  await agent.kill();
  await agent.restart();
  const adopted = await atLeast(second);
  const third = await send();
  await agent.client.pauseSandbox(agent.operation(sandboxId));
  const resting = await sent();
  await agent.client.resumeSandbox(agent.resumeRequest(sandboxId));
  const resumed = await atLeast(resting);
  const last = await send();

  for (const [from, to] of [
    [first, second],
    [adopted, third],
    [resumed, last],
  ] as const) {
    // With frames, and whatever else is said meanwhile.
    expect(to - from).toBeWithin(4 * MIB, 6 * MIB);
  }
  expect(adopted - second).toBeLessThan(MIB);
  expect(resting - third).toBeLessThan(MIB);
  expect(resumed - resting).toBeLessThan(MIB);
});
