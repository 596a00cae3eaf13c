// Paused capsules come back as they were: the same boot, the same processes, the same files.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdir, truncate } from "node:fs/promises";
import { join } from "node:path";
import { codeOf, resume, untilDurable, untilStatus } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { tickerArgs } from "../../tests/harness/ticker.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

setDefaultTimeout(300_000);
/** How far the guest's clock may be off at its first instruction. */
const CLOCK_OFF_MS_MAX = 50;

let agent: AgentProcess;

beforeAll(async () => {
  agent = await AgentProcess.start();
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

/** A program that counts in memory, so that only a resume can go on with its number. */
async function startTicker(id: string): Promise<void> {
  const command = { cmd: "perl", args: tickerArgs("/dev/shm/ticks"), tag: "ticker" };
  await agent.client.startBackground({ sandboxId: id, ...command });
  const ticks = () => agent.sh(id, "cat /dev/shm/ticks 2>/dev/null || true");
  await waitFor("the first tick", ticks, { timeoutMs: GUEST_MS });
}

const BOOT_NONCE = "cat /proc/sys/kernel/random/boot_id";

test("a capsule goes on after each pause, sealed or not", async () => {
  const id = await agent.create();
  await startTicker(id);
  const nonce = await agent.sh(id, BOOT_NONCE);
  const uuids = new Set<string>();
  const ids = new Set<string>();

  for (const isSealed of [true, false, true]) {
    const before = Number.parseInt(await agent.sh(id, "cat /dev/shm/ticks"), 10);
    await agent.client.pauseSandbox(agent.operation(id));
    expect(await agent.statuses()).toEqual({ [id]: "paused" });
    expect(await codeOf(agent.sh(id, "true"))).toBe("FailedPrecondition");
    if (isSealed) {
      await untilDurable(agent, id);
      const { processes, netns, cgroups, claims } = await agent.leftovers();
      expect({ processes, netns, cgroups, claims }).toEqual({
        processes: [],
        netns: [],
        cgroups: [],
        claims: [],
      });
    }
    const { resumedFrom, status } = await agent.client.resumeSandbox(agent.resumeRequest(id));
    expect({ resumedFrom, status }).toEqual({ resumedFrom: "memory", status: "running" });

    const sentAt = Date.now();
    const clockMs = Number(await agent.sh(id, "date +%s%3N"));
    expect(clockMs).toBeGreaterThan(sentAt - CLOCK_OFF_MS_MAX);
    expect(clockMs).toBeLessThan(Date.now() + CLOCK_OFF_MS_MAX);
    expect(await agent.sh(id, BOOT_NONCE)).toBe(nonce);
    const after = Number.parseInt(await agent.sh(id, "sleep 0.5; cat /dev/shm/ticks"), 10);
    expect(after).toBeGreaterThan(before);
    uuids.add(await agent.sh(id, "cat /proc/sys/kernel/random/uuid"));
    ids.add(await agent.sh(id, "cat /etc/machine-id"));
    expect(await agent.sh(id, "hostname")).toBe(`${id}\n`);
    expect((await agent.client.listProcesses({ sandboxId: id })).processes).toMatchObject([
      { tag: "ticker" },
    ]);
  }

  expect([uuids.size, ids.size]).toEqual([3, 3]);
  await agent.client.destroySandbox({ sandboxId: id });
  expect(await agent.leftovers()).toEqual(NOTHING);
});

test("two resumes at once give one VM, and the memory before a damaged one is there to be chosen", async () => {
  const id = await agent.create();
  for (const word of ["first", "second"]) {
    await agent.sh(id, `echo ${word} | tee /dev/shm/word > /root/word; sync`);
    await agent.client.pauseSandbox(agent.operation(id));
    await untilDurable(agent, id);
    const codes = await Promise.all(
      [1, 2].map(() => codeOf(agent.client.resumeSandbox(agent.resumeRequest(id)))),
    );
    expect(codes.sort()).toEqual(["FailedPrecondition", "none"]);
    const { processes } = await agent.leftovers();
    expect(processes.filter((name) => name.includes("qemu")).length).toBe(1);
  }
  await agent.client.pauseSandbox(agent.operation(id));
  await untilDurable(agent, id);
  const generations = (await readdir(join(agent.dir, "snapshots", id))).filter((n) =>
    /^\d+$/.test(n),
  );
  const newest = Math.max(...generations.map(Number));
  await truncate(join(agent.dir, "snapshots", id, String(newest), "device-state"), 100);

  expect(await resume(agent, id, "memory")).toBe("previous_memory");

  expect(await agent.sh(id, "cat /dev/shm/word /root/word")).toBe("second\nsecond\n");
  await agent.client.destroySandbox({ sandboxId: id });
  expect(await agent.leftovers()).toEqual(NOTHING);
});

test("a resume may boot the disk as it is, at once after the pause, and the memory is still there", async () => {
  const id = await agent.create();
  const nonce = await agent.sh(id, `${BOOT_NONCE}; echo kept > /root/word; sync`);
  await agent.client.pauseSandbox(agent.operation(id));

  expect(await resume(agent, id, "disk")).toBe("disk");

  expect(await agent.sh(id, BOOT_NONCE)).not.toBe(nonce);
  expect(await agent.sh(id, "cat /root/word")).toBe("kept\n");
  process.kill((await agent.pids(id)).pid, "SIGKILL");
  await untilStatus(agent, id, "error");
  expect(await resume(agent, id, "memory")).toBe("previous_memory");
  expect(await agent.sh(id, BOOT_NONCE)).toBe(nonce);
  await agent.client.destroySandbox({ sandboxId: id });
  expect(await agent.leftovers()).toEqual(NOTHING);
});

test("an agent that is told to rest pauses what runs, and it is there again after the next start", async () => {
  const id = await agent.create();
  const nonce = await agent.sh(id, BOOT_NONCE);

  await agent.client.terminate({ pause: true });
  expect(await agent.exited()).toBe(0);

  const { processes, netns, links, cgroups, claims } = await agent.leftovers();
  expect([processes, netns, links, cgroups, claims]).toEqual([[], [], [], [], []]);
  await agent.restart();
  expect(await agent.statuses()).toEqual({ [id]: "paused" });
  await agent.client.resumeSandbox(agent.resumeRequest(id));
  expect(await agent.sh(id, BOOT_NONCE)).toBe(nonce);
  await agent.client.destroySandbox({ sandboxId: id });
  expect(await agent.leftovers()).toEqual(NOTHING);
});
