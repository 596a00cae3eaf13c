// A host whose disk gets full under disks by device-mapper, on a real host (tests/host-rig). One of these that finds no
// room is lost as a whole and for good, so what guests write has to wait while there is some left.

import { expect, setDefaultTimeout, test } from "bun:test";
import { codeOf } from "../../tests/harness/agent-calls.ts";
import { NOTHING } from "../../tests/harness/agent-process.ts";
import { CrampedAgent } from "../../tests/harness/cramped-agent.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { HOLD_BYTES } from "../limits.ts";

const MIB = 1024 * 1024;
const WRITE_MIB = 128;
const LEFT_MIB = HOLD_BYTES / MIB + WRITE_MIB / 4;
/** Of a guest of a guest. */
const WRITE_MS = 300_000;

setDefaultTimeout(900_000);

const cramped = await forThisFile(CrampedAgent.start("6G"));
const { disk, agent, id, state } = cramped;

const call = () =>
  codeOf(agent.client.exec({ sandboxId: id, cmd: "true", args: [], timeoutSec: 60 }));
const held = "ResourceExhausted";

/** Has the guest write more than there is room for; returns when it is held. */
async function writeUntilHeld(name: string): Promise<void> {
  await disk.fill(LEFT_MIB);
  const script = `head -c ${WRITE_MIB}M /dev/urandom > /root/big; sync; md5sum /root/big > /dev/shm/${name}`;
  const command = { cmd: "/bin/sh", args: ["-c", script], tag: name };
  await agent.client.startBackground({ sandboxId: id, ...command });
  const options = { holds: (code: string) => code === held, timeoutMs: WRITE_MS, everyMs: 500 };
  await waitFor("the guest to be held", call, options);
}

test("what a guest writes waits before the disk is full, whoever looks after it, and goes on", async () => {
  await writeUntilHeld("sum");
  expect(await codeOf(agent.create())).toBe(held);
  await agent.kill();
  await agent.restart();
  await waitFor("the next agent to say so", call, { holds: (code) => code === held, everyMs: 500 });
  expect(await agent.log()).toMatch(/"stalls\.room-low"(.|\n)*"stalls\.held"/);

  await disk.makeRoom();

  const sum = () => agent.sh(id, "cat /dev/shm/sum").catch(() => "");
  await waitFor("the write to end", sum, { timeoutMs: WRITE_MS, everyMs: 1000 });
  expect(await agent.sh(id, "echo 3 > /proc/sys/vm/drop_caches; md5sum -c /dev/shm/sum")).toBe(
    "/root/big: OK\n",
  );
  expect(await cramped.stateOf()).toBe(state);
});

test("one whose writes wait can be destroyed", async () => {
  await agent.sh(id, "rm /root/big; sync");
  await writeUntilHeld("another");

  await agent.client.destroySandbox({ sandboxId: id });

  expect(await agent.leftovers()).toEqual(NOTHING);
  await disk.makeRoom();
});
