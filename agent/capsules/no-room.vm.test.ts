// A host whose disk is full to the last block, filled by somebody else: what needs room is refused at once and
// changes nothing, a guest whose write finds none stands still and goes on when there is some, an agent can be
// started again, and a destroy always works.

import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { link, mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { encodeId, encodeUuid, newId } from "../../proto/ids.ts";
import { arm, codeOf, destroyAll, pauseDurably, resume } from "../../tests/harness/agent-calls.ts";
import { NOTHING, PLATFORM_TEAM } from "../../tests/harness/agent-process.ts";
import { CrampedAgent } from "../../tests/harness/cramped-agent.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

/** Is not even tried with a guest; of an image all bytes are read before. */
const REFUSAL_MS_MAX = 20_000;
const CLOCK_OFF_SEC_MAX = 2;

setDefaultTimeout(240_000);

const cramped = await forThisFile(CrampedAgent.start("2G"));
const { disk, agent, id, state } = cramped;

afterEach(() => cramped.makeRoom());

async function expectRefused(call: () => Promise<unknown>): Promise<void> {
  const before = await agent.statuses();
  const startedAt = performance.now();
  expect(await codeOf(call())).toBe("ResourceExhausted");
  expect(performance.now() - startedAt).toBeLessThan(REFUSAL_MS_MAX);
  expect(await agent.statuses()).toEqual(before);
}

function snapshotRequest() {
  return { ...agent.operation(id), teamId: PLATFORM_TEAM, templateId: crypto.randomUUID() };
}

test("what needs room is refused while the guest runs, and it runs on", async () => {
  const child = encodeId("capsule", newId("capsule"));
  const children = [{ ...agent.operation(child), envdAccessToken: "0".repeat(64) }];
  await disk.fillUp();

  await expectRefused(() => agent.create());
  await expectRefused(() => agent.client.pauseSandbox(agent.operation(id)));
  await expectRefused(() => agent.client.createSnapshot(snapshotRequest()));
  await expectRefused(() => agent.client.forkSandbox({ sandboxId: id, children }));

  await cramped.makeRoom();
  expect(await cramped.stateOf()).toBe(state);
});

test("a guest that cannot write stands still, and goes on when there is room, with the right time", async () => {
  const underWay = codeOf(
    agent.client.exec({ sandboxId: id, cmd: "sleep", args: ["200"], timeoutSec: 200 }),
  );
  const sleepers = () => agent.sh(id, "grep -lx sleep /proc/[0-9]*/comm || true");
  await waitFor("it to be under way", sleepers, {
    holds: (found) => found !== "",
    timeoutMs: GUEST_MS,
  });
  await disk.fillUp();
  const command = "head -c 64M /dev/urandom > /root/big; sync; md5sum /root/big > /dev/shm/sum";
  const args = ["-c", command];
  await agent.client.startBackground({ sandboxId: id, cmd: "/bin/sh", args, tag: "writer" });
  await waitFor("the guest to stand still", () => isSilent(), { timeoutMs: GUEST_MS });
  // Told at once, not when the call's time is over.
  const call = () => codeOf(agent.client.exec({ sandboxId: id, cmd: "true", timeoutSec: 60 }));
  const isTold = (code: string) => code === "ResourceExhausted";
  await waitFor("the agent to say so", call, { holds: isTold, timeoutMs: GUEST_MS });
  expect(await underWay).toBe("ResourceExhausted");

  await cramped.makeRoom();

  await waitFor("the write to end", () => agent.sh(id, "cat /dev/shm/sum").catch(() => ""), {
    holds: (sum) => sum !== "",
    timeoutMs: GUEST_MS,
  });
  expect(await agent.sh(id, "echo 3 > /proc/sys/vm/drop_caches; md5sum -c /dev/shm/sum")).toBe(
    "/root/big: OK\n",
  );
  const guestSec = Number(await agent.sh(id, "date +%s"));
  expect(Math.abs(guestSec - Date.now() / 1000)).toBeLessThan(CLOCK_OFF_SEC_MAX);
  expect(await cramped.stateOf()).toBe(state);
  // What was answered as failed does not go on.
  await waitFor("the end of the command", sleepers, {
    holds: (found) => found === "",
    timeoutMs: GUEST_MS,
  });
  await agent.sh(id, "rm /root/big; sync");
});

/** Has the guest write until its VMM stops it. */
async function standStill(): Promise<void> {
  await disk.fillUp();
  const args = ["-c", "head -c 32M /dev/urandom > /root/big; sync"];
  await agent.client.startBackground({ sandboxId: id, cmd: "/bin/sh", args });
  await waitFor("the guest to stand still", () => isSilent(), { timeoutMs: GUEST_MS });
  // So much its clock is behind when nobody tells it the time.
  await Bun.sleep(2 * CLOCK_OFF_SEC_MAX * 1000);
}

// At each step: stalls.test.ts.
test("an agent is killed when it has let the guest run on, and its successor tells that the time", async () => {
  await arm(agent, "stall.after-continue:kill");
  await standStill();
  await disk.makeRoom();
  await agent.exited();

  await agent.restart();

  const offSec = async () => {
    const guestSec = Number(await agent.sh(id, "date +%s"));
    return Math.abs(guestSec - Date.now() / 1000);
  };
  await waitFor("the guest to be on time", offSec, {
    holds: (sec) => sec < CLOCK_OFF_SEC_MAX,
    timeoutMs: GUEST_MS,
  });
  expect(await cramped.stateOf()).toBe(state);
  await agent.sh(id, "rm /root/big; sync");
});

async function isSilent(): Promise<boolean> {
  const look = { sandboxId: id, cmd: "true", timeoutSec: 1 };
  return (await codeOf(agent.client.exec(look, { timeoutMs: 3_000 }))) !== "none";
}

test("a paused capsule is kept: nothing resumes without room, all does with it", async () => {
  await arm(agent);
  await pauseDurably(agent, id);
  await disk.fillUp();

  for (const from of ["", "memory", "disk"] as const) {
    await expectRefused(() => resume(agent, id, from));
  }
  await agent.kill();
  await agent.restart();
  await expectRefused(() => resume(agent, id));

  await cramped.makeRoom();
  expect(await resume(agent, id)).toBe("memory");
  expect(await cramped.stateOf()).toBe(state);
});

test("an image that cannot be imported is another time", async () => {
  const templateId = crypto.randomUUID();
  const dir = join(agent.dir, "images/teams", encodeUuid(PLATFORM_TEAM), encodeUuid(templateId));
  const blobs = join(agent.dir, "images/blobs");
  const [blob = ""] = await readdir(blobs);
  await mkdir(dir);
  await link(join(blobs, blob), join(dir, "rootfs.ext4"));
  await rename(join(blobs, blob), join(blobs, `${blob}.away`));
  const request = () => ({ ...agent.createRequest(), templateId });
  await disk.fillUp();

  await expectRefused(() => agent.client.createSandbox(request()));

  await cramped.makeRoom();
  const { sandboxId } = await agent.client.createSandbox(request());
  await agent.client.destroySandbox({ sandboxId });
});

test("an agent is started, and everything destroyed, without any room", async () => {
  await pauseDurably(agent, id);
  const running = await agent.create();
  await disk.fillUp();
  await agent.kill();
  await agent.restart();
  expect(await agent.statuses()).toEqual({ [id]: "paused", [running]: "running" });
  await disk.fillUp();

  await destroyAll(agent);

  expect(await agent.statuses()).toEqual({});
  expect(await agent.leftovers()).toEqual(NOTHING);
});
