// One capsule is held to its share of disk and network while another goes on, and nothing that becomes of it frees it.
// What is measured is how long something takes at least: a busy machine takes longer for everything.

import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { encodeId, newId } from "../../proto/ids.ts";
import { pauseDurably, resume } from "../../tests/harness/agent-calls.ts";
import { AgentProcess } from "../../tests/harness/agent-process.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SmallDisk } from "../../tests/harness/small-disk.ts";
import { findDisk } from "../cgroups/disk-throttle.ts";
import { findHierarchies } from "../cgroups/hierarchies.ts";

setDefaultTimeout(240_000);

const MIB = 1024 * 1024;
/** 4 Mbit/s are half a MB/s: with what may pass at once, a MiB takes 1.8 s. */
const NETWORK_MBITPS = 4;
const PAYLOAD = new Uint8Array(MIB);
/** Twice the share. */
const PAYLOAD_MS_MIN = 900;

/** Where what one capsule waits for is not what another one waits for, too, as in a journal of ext4. */
async function startOnOwnDisk() {
  await using stack = new AsyncDisposableStack();
  const disk = stack.use(await SmallDisk.mount("4G"));
  const agent = stack.use(await AgentProcess.start(disk.path));
  const owned = stack.move();
  return { disk, agent, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const { disk, agent } = await forThisFile(startOnOwnDisk());

afterEach(async () => {
  for (const sandboxId of Object.keys(await agent.statuses())) {
    await agent.client.destroySandbox({ sandboxId });
  }
});

const createWith = async (shares: object) =>
  (await agent.client.createSandbox({ ...agent.createRequest(), shares })).sandboxId;

/** Through the guest's page cache and the host's to the disk. */
const write = (id: string, mib: number) =>
  agent.sh(id, `head -c ${mib}M /dev/urandom > /root/data && sync /root/data && echo written`);

async function timeMs(work: () => Promise<unknown>): Promise<number> {
  const startedAtMs = performance.now();
  await work();
  return performance.now() - startedAtMs;
}

const send = (sandboxId: string) =>
  timeMs(() => agent.client.writeFile({ sandboxId, path: "/dev/shm/data", content: PAYLOAD }));

/** The bytes a second that the kernel lets the capsule write to the disk; null: as many as it can. */
async function writeRate(id: string): Promise<number | null> {
  const tag = (await readFile(join(agent.dir, "tag"), "utf8")).trim();
  const tree = (await findHierarchies()).find(({ controllers }) => controllers.includes("io"));
  const group = join(tree?.mount ?? "", `wrenn-${tag}`, id);
  const name = tree?.version === 2 ? "io.max" : "blkio.throttle.write_bps_device";
  const text = await readFile(join(group, name), "utf8");
  const device = (await findDisk(disk.path)).replace(":", "\\:");
  const found = new RegExp(`^${device} (?:.*wbps=)?(\\d+)`, "m").exec(text);
  return found ? Number(found[1]) : null;
}

test("a capsule writes no faster than its share, and another one meanwhile does", async () => {
  const held = await createWith({ diskWriteMibps: 2 });
  const free = await agent.create();
  const ended: string[] = [];

  const heldMs = timeMs(() => write(held, 16)).finally(() => ended.push("held"));
  const freeMs = timeMs(() => write(free, 4)).finally(() => ended.push("free"));

  await freeMs;
  // 8 s at 2 MiB a second.
  expect(await heldMs).toBeGreaterThan(4_000);
  expect(ended).toEqual(["free", "held"]);
  expect([await writeRate(held), await writeRate(free)]).toEqual([2 * MIB, null]);
});

test("a capsule gets and sends no faster than its share", async () => {
  const shares = { networkInMbitps: NETWORK_MBITPS, networkOutMbitps: NETWORK_MBITPS };
  const id = await createWith(shares);

  const inMs = await send(id);
  const outMs = await timeMs(() => agent.client.readFile({ sandboxId: id, path: "/dev/shm/data" }));

  expect(inMs).toBeGreaterThan(PAYLOAD_MS_MIN);
  expect(outMs).toBeGreaterThan(PAYLOAD_MS_MIN);
});

test("shares stay through a restart of the agent, a pause, and go to forks", async () => {
  const id = await createWith({ diskWriteMibps: 3, networkInMbitps: NETWORK_MBITPS });
  const heldAs = async (one: string) => [await writeRate(one), (await send(one)) > PAYLOAD_MS_MIN];
  const seen: Record<string, unknown> = {};

  await agent.kill();
  await agent.restart();
  seen.adopted = await heldAs(id);
  await agent.client.pauseSandbox(agent.operation(id));
  await resume(agent, id);
  seen.resumed = await heldAs(id);
  await pauseDurably(agent, id);
  await resume(agent, id);
  seen.restored = await heldAs(id);
  const child = {
    sandboxId: encodeId("capsule", newId("capsule")),
    operationId: crypto.randomUUID(),
    envdAccessToken: agent.createRequest().envdAccessToken,
  };
  await agent.client.forkSandbox({ sandboxId: id, children: [child] });
  seen.forked = await heldAs(child.sandboxId);

  const held = [3 * MIB, true];
  expect(seen).toEqual({ adopted: held, resumed: held, restored: held, forked: held });
});

test("what the settings say holds for capsules that have nothing of their own, those from before too", async () => {
  const id = await agent.create();
  const settings = { WRENN_DISK_WRITE_MIBPS: "5", WRENN_NETWORK_IN_MBITPS: `${NETWORK_MBITPS}` };

  await agent.kill("SIGTERM");
  await agent.restart({ env: settings });
  const own = await createWith({ diskWriteMibps: 7 });
  const rates = [await writeRate(id), await writeRate(own)];
  const times = [await send(id), await send(own)];
  await agent.kill("SIGTERM");
  await agent.restart();
  const after = await writeRate(id);

  expect([rates, after]).toEqual([[5 * MIB, 7 * MIB], null]);
  expect(Math.min(...times)).toBeGreaterThan(PAYLOAD_MS_MIN);
});
