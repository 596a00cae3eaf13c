// The clock that tests set, as a program sees it.

import { expect, test } from "bun:test";
import { SteppedClock } from "./stepped-clock.ts";

const MONTH_MS = 30 * 86_400_000;
/** Of a line that was written and is read on a busy machine. */
const OFF_MS_MAX = 10_000;

// Tells both clocks for each line that it is sent.
const PROGRAM = `
for await (const _ of console) console.log(Date.now() + " " + Math.round(performance.now()));
`;

test("a program's dates go with each step, ahead and back, and its timers do not", async () => {
  using clock = new SteppedClock();
  await using program = Bun.spawn([process.execPath, "-e", PROGRAM], {
    env: { PATH: process.env.PATH, ...clock.env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = program.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const monotonicMs: number[] = [];

  for (const ms of [0, MONTH_MS, -MONTH_MS, -1, 0]) {
    clock.set(ms);
    program.stdin.write("?\n");
    program.stdin.flush();
    const [dateMs = 0, sinceStartMs = 0] = (await lines.read()).value?.split(" ").map(Number) ?? [];
    expect(Math.abs(dateMs - clock.nowMs())).toBeLessThan(OFF_MS_MAX);
    monotonicMs.push(sinceStartMs);
  }

  expect(monotonicMs).toEqual(monotonicMs.toSorted((a, b) => a - b));
  expect((monotonicMs.at(-1) ?? 0) - (monotonicMs[0] ?? 0)).toBeLessThan(OFF_MS_MAX);
});
