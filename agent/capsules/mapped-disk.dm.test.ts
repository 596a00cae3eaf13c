// A capsule whose root disk is a device-mapper device, on a real host (tests/host-rig): with KVM there.

import { expect, test } from "bun:test";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { untilDurable } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";

const TIMEOUT_MS = 1_200_000;
const WORDS = "cat /root/word /dev/shm/word";

test(
  "it is paused and resumed with memory and disk, and leaves nothing",
  async () => {
    await using agent = await AgentProcess.start();
    expect(await agent.log()).toMatch(/"vmm":"qemu [^"]* kvm","cow":"dm"/);
    const id = await agent.create();
    await agent.sh(id, "echo kept | tee /root/word > /dev/shm/word; sync");

    await agent.client.pauseSandbox(agent.operation(id));
    await untilDurable(agent, id);
    const paused = await agent.leftovers();
    const generation = join(agent.dir, "snapshots", id, "0");
    const files = (await readdir(generation)).filter((name) => name.startsWith("disk."));
    const { blocks } = await stat(join(generation, "disk.cow"));
    const { resumedFrom } = await agent.client.resumeSandbox(agent.resumeRequest(id));
    const words = await agent.sh(id, WORDS);
    await agent.client.destroySandbox({ sandboxId: id });

    expect(paused.devices).toEqual([]);
    expect(files.sort()).toEqual(["disk.base", "disk.cow"]);
    expect(blocks * 512).toBeLessThan(64 * 1024 * 1024);
    expect([resumedFrom, words]).toEqual(["memory", "kept\nkept\n"]);
    expect(await agent.leftovers()).toEqual(NOTHING);
  },
  TIMEOUT_MS,
);
