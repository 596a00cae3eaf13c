// The host of setup.dm.test.ts after the plug was pulled and it started again.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { startControlPlane } from "./control-plane.ts";
import {
  AGENT_LOG,
  CONTROL_PLANE_DIR,
  pause,
  readNotes,
  resume,
  sh,
  TIMEOUT_MS,
  undo,
  untilOnline,
} from "./host.ts";

let hasPassed = false;

beforeAll(() => startControlPlane(CONTROL_PLANE_DIR), TIMEOUT_MS);
afterAll(async () => {
  if (!hasPassed) await undo();
}, TIMEOUT_MS);

test(
  "the unit starts by itself, and its host is online",
  async () => {
    await untilOnline();
    const starts = (await readFile(AGENT_LOG, "utf8")).match(/"vmm":"qemu [^"]* kvm","cow":"dm"/g);
    // Of the first start, the restart, the death, and this one.
    expect(starts).toHaveLength(4);
  },
  TIMEOUT_MS,
);

test(
  "the running one boots from its disk, where all that it had synced is whole",
  async () => {
    const { running } = await readNotes();

    expect(await resume(running)).toBe("disk");

    expect(await sh(running, "cat /root/id; ls /dev/shm")).toBe(`${running}\n`);
    const lines = (await sh(running, "cat /root/records")).trimEnd().split("\n");
    // The last one may be torn: nobody was told that it was there.
    const whole = lines.slice(0, -1);
    expect(whole.length).toBeGreaterThan(19);
    for (const [i, line] of whole.entries()) {
      const hash = new Bun.CryptoHasher("sha256").update(`${i + 1}\n`).digest("hex");
      expect(line).toBe(`${i + 1} ${hash.slice(0, 16)}`);
    }
    expect(await sh(running, "dmesg | grep -c 'EXT4-fs error' || true")).toBe("0\n");
  },
  TIMEOUT_MS,
);

// Devices get their numbers in another order than before: none leads to another one's disk.
test(
  "the paused one goes on with its memory and its own disk",
  async () => {
    const { paused, running } = await readNotes();

    expect(await resume(paused)).toBe("memory");

    for (const id of [paused, running]) expect(await sh(id, "cat /root/id")).toBe(`${id}\n`);
    expect(await sh(paused, "cat /dev/shm/id")).toBe(`${paused}\n`);
  },
  TIMEOUT_MS,
);

test(
  "one is paused again, the other runs when the machine is to start again",
  async () => {
    const { paused, running } = await readNotes();
    await pause(paused);
    await sh(running, "echo synced > /root/word; sync; echo gone > /dev/shm/word");
    hasPassed = true;
  },
  TIMEOUT_MS,
);
