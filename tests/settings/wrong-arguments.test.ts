// Whoever names something to test or to measure that does not exist reads one sentence, before anything is begun.

import { expect, test } from "bun:test";
import { resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "../..");
const TIMEOUT_MS = 60_000;

test.each([
  ["scripts/test.ts", ["all", "no/such"], "Cannot test: there is no test file at or below no/such"],
  [
    "tests/bench/main.ts",
    ["exec", "exce"],
    "Cannot measure: no group is named exce; there are pager, cold, pause, exec,",
  ],
  ["tests/host-rig/main.ts", ["fast"], 'Cannot test: a mode is short, full or native, not "fast"'],
  [
    "tests/host-rig/main.ts",
    ["short", "agent/drivers", "no/such"],
    "Cannot test: there is no test file at or below no/such",
  ],
])(
  "%s %p is refused",
  async (program, args, sentence) => {
    const child = Bun.spawn([process.execPath, `${ROOT}/${program}`, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      timeout: TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);

    expect([await child.exited, stdout]).toEqual([1, ""]);
    expect(stderr.trimEnd().split("\n")).toEqual([expect.stringContaining(sentence)]);
  },
  TIMEOUT_MS,
);
