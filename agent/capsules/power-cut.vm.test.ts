// A VMM that ends by itself, and a host that reboots, are a power cut: what a guest had synced is there after
// the next resume, which boots the disk as it is. The memory of before stays and can be chosen, and then it is
// the newer disk that stays. Files are read past every cache: a restored guest remembers what was in its own.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  arm,
  codeOf,
  destroyAll,
  infoOf,
  pauseDurably,
  resume,
  untilStatus,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { fileOn, fileSystemDamage, withCopy } from "../../tests/harness/disk-image.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

setDefaultTimeout(240_000);

let agent: AgentProcess;
let id: string;

beforeAll(async () => {
  agent = await AgentProcess.start();
  id = await agent.create();
  await write("first");
  await pauseDurably(agent, id);
  expect(await resume(agent, id)).toBe("memory");
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

/** In the guest's memory and, synced, on its disk. */
async function write(word: string): Promise<void> {
  await agent.sh(id, `echo ${word} | tee /dev/shm/word > /root/word; sync`);
}

/** What the guest's disk has, and its memory: "gone" if it booted. */
async function words(): Promise<string[]> {
  const script =
    "echo 3 > /proc/sys/vm/drop_caches; cat /root/word; cat /dev/shm/word 2>/dev/null || echo gone";
  return (await agent.sh(id, script)).trim().split("\n");
}

async function loseVmm(): Promise<void> {
  process.kill((await agent.pids(id)).pid, "SIGKILL");
  await untilStatus(agent, id, "error");
}

async function disksAside(): Promise<string[]> {
  const dir = join(agent.dir, "sandboxes");
  const names = (await readdir(dir)).filter((name) => name !== `${id}.ext4`);
  return names.map((name) => join(dir, name));
}

/** Everything that the kernel held goes, and with it the run directory. */
async function rebootHost(): Promise<void> {
  const pids = Object.values(await agent.pids(id)).filter((pid) => typeof pid === "number");
  await agent.kill();
  for (const pid of pids) process.kill(pid, "SIGKILL");
  const isGone = (pid: number) => !Bun.spawnSync(["ps", "-o", "pid=", "-p", `${pid}`]).success;
  await waitFor("the end of all processes", () => pids.every(isGone), { timeoutMs: GUEST_MS });
  expect(Bun.spawnSync(["umount", join(agent.dir, "run")]).success).toBe(true);
  await agent.restart();
}

test("after the loss of its VMM a capsule boots what it had synced, however often it is asked", async () => {
  await write("second");
  await loseVmm();
  const request = agent.resumeRequest(id);

  expect((await agent.client.resumeSandbox(request)).resumedFrom).toBe("disk");

  expect(await words()).toEqual(["second", "gone"]);
  await arm(agent);
  expect((await agent.client.resumeSandbox(request)).resumedFrom).toBe("disk");
  expect((await infoOf(agent, id))?.resumedFrom).toBe("disk");
});

test("the memory of before can be chosen with its own disk, and the newer disk stays meanwhile", async () => {
  await write("third");
  await loseVmm();

  expect(await resume(agent, id, "memory")).toBe("previous_memory");

  expect(await words()).toEqual(["first", "first"]);
  const [aside = "none", ...others] = await disksAside();
  expect(others).toEqual([]);
  const newer = await withCopy(aside, async (copy) => {
    const damage = await fileSystemDamage(copy);
    return damage || (await fileOn(copy, "/root/word")).toString();
  });
  expect(newer).toBe("third\n");

  await arm(agent);
  await pauseDurably(agent, id);
  expect(await disksAside()).toEqual([aside]);
  expect(await resume(agent, id)).toBe("memory");
  await pauseDurably(agent, id);
  // The generation for which it was set aside is not among the last two.
  expect(await disksAside()).toEqual([]);
  expect(await resume(agent, id)).toBe("memory");
  expect(await words()).toEqual(["first", "first"]);
});

test("a resume that took the disk away and was cut off gives it back", async () => {
  await write("fourth");
  await loseVmm();
  for (const action of ["fail", "kill"]) {
    await arm(agent, `resume.after-guest:${action}`);
    const code = await codeOf(resume(agent, id, "memory"));
    if (action === "kill") await agent.exited().then(() => agent.restart());
    expect(code).not.toBe("none");
    expect((await agent.statuses())[id]).toBe("error");
    expect(await disksAside()).toEqual([]);
  }
  await arm(agent);

  expect(await resume(agent, id)).toBe("disk");

  expect(await words()).toEqual(["fourth", "gone"]);
});

test("killed just after such a resume, the agent's successor keeps the newer disk", async () => {
  await loseVmm();
  await arm(agent, "resume.after-move:kill");
  const resuming = codeOf(resume(agent, id, "memory"));
  await agent.exited();
  await resuming;

  await agent.restart();

  expect((await agent.statuses())[id]).toBe("running");
  expect(await words()).toEqual(["first", "first"]);
  const [aside = "none"] = await disksAside();
  expect((await withCopy(aside, (copy) => fileOn(copy, "/root/word"))).toString()).toBe("fourth\n");
});

test("after a reboot of its host a capsule that ran boots what it had synced", async () => {
  await write("fifth");

  await rebootHost();

  expect((await agent.statuses())[id]).toBe("error");
  expect(await resume(agent, id)).toBe("disk");
  expect(await words()).toEqual(["fifth", "gone"]);
});

test("and so does one that was paused and not yet durable, and what it then has is whole", async () => {
  await write("sixth");
  await arm(agent, "pause.after-paused:stop");
  const pausing = codeOf(agent.client.pauseSandbox(agent.operation(id)));
  await agent.stopped();
  const reboot = rebootHost();
  await pausing;
  await reboot;

  const lost = await waitFor("the loss", () => infoOf(agent, id), {
    holds: (info) => info?.reason !== "",
    timeoutMs: GUEST_MS,
  });
  expect([lost?.status, lost?.durableAtUnix]).toEqual(["paused", 0n]);
  expect(await resume(agent, id)).toBe("disk");
  expect(await words()).toEqual(["sixth", "gone"]);
  await pauseDurably(agent, id);
  const [newest] = (await readdir(join(agent.dir, "snapshots", id)))
    .filter((name) => /^\d+$/.test(name))
    .sort((a, b) => Number(b) - Number(a));
  const disk = join(agent.dir, "snapshots", id, newest ?? "", "disk.ext4");
  expect(await withCopy(disk, fileSystemDamage)).toBe("");
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});
