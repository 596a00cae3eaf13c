// The life of a capsule on a real host (tests/host-rig), with KVM and disks by device-mapper, under the VMM that
// WRENN_VMM names: what the tests of this folder look into one by one, under QEMU, for any of them.

import { expect, setDefaultTimeout, test } from "bun:test";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { encodeId, newId } from "../../proto/ids.ts";
import { pauseDurably, resume, untilStatus } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { countCalls, footprintOf } from "../../tests/harness/footprint.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

const VMM = process.env.WRENN_VMM || "qemu";
const COW_BYTES_MAX = 64 * 1024 * 1024;
const DELETED_BYTES_MIN = 48 * 1024 * 1024;
const WORDS = "cat /root/word /dev/shm/word";

/** System calls by which the agent makes, changes or removes what others see, or asks somebody. */
const OUTWARD = new Set(
  [
    "fork vfork clone clone3 execve mount umount2 setns unshare ioctl connect sendto sendmsg",
    "mkdir rmdir link linkat unlink unlinkat rename renameat renameat2 mknodat copy_file_range",
    "chown fchown fchownat chmod fchmod truncate ftruncate fsync fdatasync",
  ].flatMap((line) => line.split(" ")),
);
const OUTWARD_MAX = 600;

setDefaultTimeout(1_200_000);

const agent = await forThisFile(AgentProcess.start());
const id = await agent.create();

test("it is this VMM, under KVM, and the guest has its clock", async () => {
  expect(await agent.log()).toMatch(new RegExp(`"vmm":"${VMM} [^"]*kvm","cow":"dm"`));

  const clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  expect(await agent.sh(id, `cat ${clock}`)).toBe("kvm-clock\n");
});

/** What it takes of the host, printed for docs/memory.md. */
async function footprint(how: string) {
  const { pid, keeperPid, pagerPid } = await agent.pids(id);
  const held = await footprintOf([pid, keeperPid, pagerPid ?? 0].filter((one) => one > 0));
  const { devices, netns, links } = await agent.leftovers();
  const counts = { ...held, devices: devices.length, netns: netns.length, links: links.length };
  console.log(`${VMM}, ${how}: ${JSON.stringify(counts)}`);
  return counts;
}

test("what it holds of its host is counted", async () => {
  const { processes, devices, netns, links, privateMib } = await footprint("booted");

  // VMM and keeper. The disk, its base and the loop device below each of its two files.
  expect({ processes, netns, links }).toEqual({ processes: 2, netns: 1, links: 1 });
  expect(devices).toBeWithin(1, 7);
  expect(privateMib).toBeLessThan(256 + 96);
});

/** Those calls while `work` is done, printed for docs/memory.md. */
async function outwardCalls(what: string, work: () => Promise<unknown>): Promise<number> {
  const counts = [...(await countCalls(agent.pid, work))].filter(([name]) => OUTWARD.has(name));
  const total = counts.reduce((sum, [, calls]) => sum + calls, 0);
  console.log(`${VMM}, ${what}: ${total} calls: ${JSON.stringify(Object.fromEntries(counts))}`);
  return total;
}

test("what a pause and a resume ask of the kernel is counted", async () => {
  const pause = await outwardCalls("pause", () => pauseDurably(agent, id));
  const resumed = await outwardCalls("resume", () => resume(agent, id));

  for (const calls of [pause, resumed]) expect(calls).toBeWithin(1, OUTWARD_MAX);
  // The third is the pager, where there is one.
  expect((await footprint("restored")).processes).toBeWithin(2, 4);
});

test("it is paused and resumed with memory and disk, from generation to generation", async () => {
  await agent.sh(id, "echo kept | tee /root/word > /dev/shm/word; sync");
  for (let generation = 1; generation < 3; generation++) {
    await pauseDurably(agent, id);

    expect((await agent.leftovers()).devices).toEqual([]);
    const directory = join(agent.dir, "snapshots", id, String(generation));
    const files = (await readdir(directory)).filter((name) => name.startsWith("disk."));
    expect(files.sort()).toEqual(["disk.base", "disk.cow"]);
    const { blocks } = await stat(join(directory, "disk.cow"));
    expect(blocks * 512).toBeLessThan(COW_BYTES_MAX);
    expect(await resume(agent, id)).toBe("memory");
    expect(await agent.sh(id, WORDS)).toBe("kept\nkept\n");
  }
});

// Firecracker hands no discards down, nor does Cloud Hypervisor as it is used here.
if (VMM === "qemu") {
  test("what the guest deletes takes no room on the host any more", async () => {
    const takes = async () => {
      const { blocks } = await stat(join(agent.dir, "sandboxes", `${id}.dm`, "cow"));
      return blocks * 512;
    };
    await agent.sh(id, "head -c 64M /dev/urandom > /root/big; sync");
    const full = await takes();
    await agent.sh(id, "rm /root/big; sync; fstrim /");

    // It is written out behind the answer.
    const holds = (bytes: number) => bytes < full - DELETED_BYTES_MIN;
    await waitFor("the disk to shrink", takes, { holds, timeoutMs: GUEST_MS, everyMs: 500 });
  });
}

test("one that is resumed before its pause is sealed goes on as it was", async () => {
  await agent.client.pauseSandbox(agent.operation(id));

  expect(await resume(agent, id)).toBe("memory");
  expect(await agent.sh(id, WORDS)).toBe("kept\nkept\n");
});

test("a fork begins where it is, and goes a way of its own", async () => {
  const child = encodeId("capsule", newId("capsule"));
  const children = [{ ...agent.operation(child), envdAccessToken: "0".repeat(64) }];

  const { results } = await agent.client.forkSandbox({ sandboxId: id, children, timeoutSec: 0 });

  expect(results).toMatchObject([{ sandboxId: child, errorCode: "" }]);
  await agent.sh(child, "echo its own | tee /root/word > /dev/shm/word; sync");
  expect(await agent.sh(child, WORDS)).toBe("its own\nits own\n");
  expect(await agent.sh(id, WORDS)).toBe("kept\nkept\n");
  await agent.client.destroySandbox({ sandboxId: child });
});

test("an agent that is killed leaves it running, and the next one has it", async () => {
  const before = await agent.pids(id);

  await agent.kill();
  await agent.restart();

  expect(await agent.pids(id)).toEqual(before);
  expect(await agent.sh(id, WORDS)).toBe("kept\nkept\n");
});

test("one whose VMM is killed boots from its disk, and leaves nothing in the end", async () => {
  process.kill((await agent.pids(id)).pid, "SIGKILL");
  await untilStatus(agent, id, "error");

  expect(await resume(agent, id)).toBe("disk");
  expect(await agent.sh(id, "cat /root/word; ls /dev/shm")).toBe("kept\n");
  await agent.client.destroySandbox({ sandboxId: id });
  expect(await agent.leftovers()).toEqual(NOTHING);
});
