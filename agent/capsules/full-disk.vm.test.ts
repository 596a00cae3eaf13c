// A host whose disk is full: pauses are refused and guests run on; what was answered as paused stays so,
// can be resumed, and becomes durable once there is room.

import { expect, setDefaultTimeout, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  arm,
  codeOf,
  destroyAll,
  infoOf,
  resume,
  untilDurable,
} from "../../tests/harness/agent-calls.ts";
import { NOTHING } from "../../tests/harness/agent-process.ts";
import { CrampedAgent } from "../../tests/harness/cramped-agent.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

/** Less than a pause wants to see free or memory takes, and enough for a journal. */
const NEARLY_FULL_MIB = 24;

setDefaultTimeout(240_000);

const cramped = await forThisFile(CrampedAgent.start("4G"));
const { disk, agent, id, state } = cramped;

async function failedSeals(): Promise<number> {
  return (await agent.log()).split('"capsule.seal-failed"').length - 1;
}

/** Pauses the capsule, and takes the room away before its memory is on the disk. */
async function pauseWithoutRoom(): Promise<void> {
  await arm(agent, "pause.after-paused:stop");
  const before = await failedSeals();
  const pausing = agent.client.pauseSandbox(agent.operation(id));
  await agent.stopped();
  await disk.fill(NEARLY_FULL_MIB);
  agent.goOn();
  await pausing;
  await waitFor("a seal that failed", failedSeals, {
    holds: (count) => count > before,
    timeoutMs: GUEST_MS,
  });
}

test("a pause without room is refused, and the capsule runs on", async () => {
  await disk.fill(NEARLY_FULL_MIB);

  expect(await codeOf(agent.client.pauseSandbox(agent.operation(id)))).toBe("ResourceExhausted");

  expect(await agent.statuses()).toEqual({ [id]: "running" });
  expect(await cramped.stateOf()).toBe(state);
  await disk.makeRoom();
});

test("sealing without room leaves the capsule paused; it can be resumed, or becomes durable later", async () => {
  await agent.sh(id, "head -c 64M /dev/urandom > /dev/shm/big; md5sum /dev/shm/big > /dev/shm/sum");
  await pauseWithoutRoom();
  const info = await infoOf(agent, id);
  expect([info?.status, info?.durableAtUnix]).toEqual(["paused", 0n]);

  expect(await resume(agent, id)).toBe("memory");
  expect(await cramped.stateOf()).toBe(state);

  await disk.makeRoom();
  await pauseWithoutRoom();
  await disk.makeRoom();
  await untilDurable(agent, id);
  expect(await readdir(join(agent.dir, "snapshots", id))).not.toContain("paused.partial");
  expect(await resume(agent, id)).toBe("memory");
  expect(await cramped.stateOf()).toBe(state);
  expect(await agent.sh(id, "md5sum -c /dev/shm/sum")).toBe("/dev/shm/big: OK\n");
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});
