// The host of setup.dm.test.ts after an operator had it start again.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { startControlPlane } from "./control-plane.ts";
import { CONTROL_PLANE_DIR, readNotes, resume, sh, TIMEOUT_MS, undo, untilOnline } from "./host.ts";

let hasPassed = false;

beforeAll(() => startControlPlane(CONTROL_PLANE_DIR), TIMEOUT_MS);
afterAll(async () => {
  if (!hasPassed) await undo();
}, TIMEOUT_MS);

test(
  "the one that ran boots from its disk, the paused one goes on with its memory",
  async () => {
    await untilOnline();
    const { paused, running } = await readNotes();

    expect([await resume(running), await resume(paused)]).toEqual(["disk", "memory"]);

    expect(await sh(running, "cat /root/id /root/word; ls /dev/shm")).toBe(`${running}\nsynced\n`);
    expect(await sh(paused, "cat /root/id /dev/shm/id")).toBe(`${paused}\n${paused}\n`);
    hasPassed = true;
  },
  TIMEOUT_MS,
);
