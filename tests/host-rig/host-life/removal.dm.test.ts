// The end of the host of setup.dm.test.ts: what was set up goes.

import { afterAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { waitFor } from "../../harness/wait-for.ts";
import {
  agentClient,
  FORWARDING,
  mainPid,
  readNotes,
  SETTINGS_FILE,
  SETUP,
  TIMEOUT_MS,
  undo,
} from "./host.ts";

afterAll(undo, TIMEOUT_MS);

test(
  "it is not removed from under a capsule, and goes without a trace after it",
  async () => {
    const { forwardingBefore } = await readNotes();

    const early = await Bun.$`${SETUP} --remove`.nothrow().quiet();
    await (await agentClient()).terminate({});
    await waitFor("the end of the agent", mainPid, {
      holds: (pid) => pid === "0",
      timeoutMs: 120_000,
    });
    const removed = await Bun.$`${SETUP} --remove`.nothrow().quiet();
    const again = await Bun.$`${SETUP} --remove`.text();

    expect([early.exitCode, early.stderr.toString()]).toEqual([
      1,
      "Cannot set up: capsules run here; destroy them, or pause them, first.\n",
    ]);
    expect([removed.exitCode, removed.stderr.toString()]).toEqual([0, ""]);
    expect(again).toBe("==> nothing was set up here\n");
    for (const path of [
      "/usr/local/lib/wrenn",
      "/usr/local/bin/wrenn-agent",
      "/etc/systemd/system/wrenn-agent.service",
      "/etc/sysctl.d/60-wrenn.conf",
      "/etc/modules-load.d/wrenn.conf",
      "/etc/udev/rules.d/11-wrenn.rules",
      "/etc/logrotate.d/wrenn",
      "/var/lib/wrenn-setup",
    ]) {
      expect([path, existsSync(path)]).toEqual([path, false]);
    }
    expect(await readFile(FORWARDING, "utf8")).toBe(forwardingBefore);
    // Somebody's settings are in it.
    expect(existsSync(SETTINGS_FILE)).toBe(true);
  },
  TIMEOUT_MS,
);
