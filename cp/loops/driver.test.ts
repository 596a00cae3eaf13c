import { expect, test } from "bun:test";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { createLog } from "../log.ts";
import { type Loop, LoopDriver } from "./driver.ts";

/** Long enough that only a wake-up can bring another pass within a test. */
const NEVER_MS = 3_600_000;
const quiet = createLog("error", () => {});

/** A loop whose passes a test ends one by one. */
function steppedLoop(everyMs: number) {
  const passes: PromiseWithResolvers<void>[] = [];
  let under = 0;
  let underMax = 0;
  const loop: Loop = {
    name: "stepped",
    everyMs,
    async run() {
      const pass = Promise.withResolvers<void>();
      passes.push(pass);
      underMax = Math.max(underMax, ++under);
      await pass.promise;
      under--;
      return {};
    },
  };
  return { loop, passes, underMax: () => underMax };
}

test("the first pass runs at once, the next after the period", async () => {
  await using driver = new LoopDriver(quiet);
  let passes = 0;

  driver.start({ name: "often", everyMs: 1, run: async () => ({ passes: ++passes }) });

  await waitFor("three passes", () => passes, { holds: (count) => count >= 3 });
});

test("wake-ups during a pass make one further pass, after it", async () => {
  await using driver = new LoopDriver(quiet);
  const { loop, passes, underMax } = steppedLoop(NEVER_MS);
  driver.start(loop);
  await waitFor("the first pass", () => passes.length, { holds: (count) => count === 1 });

  for (let wakeUps = 0; wakeUps < 5; wakeUps++) driver.wake("stepped");
  passes[0]?.resolve();
  await waitFor("the second pass", () => passes.length, { holds: (count) => count === 2 });
  passes[1]?.resolve();
  await waitFor("the end of two passes", () => driver.statuses()[0]?.passes, {
    holds: (count) => count === 2,
  });
  await Bun.sleep(5);

  expect([passes.length, underMax()]).toEqual([2, 1]);
});

test("what passes take is told of the last one and of all", async () => {
  await using driver = new LoopDriver(quiet);
  const run = async () => {
    await Bun.sleep(10);
    return {};
  };
  driver.start({ name: "slow", everyMs: 1, run });
  await waitFor("the end of two passes", () => driver.statuses()[0]?.passes ?? 0, {
    holds: (count) => count >= 2,
  });

  const [status] = driver.statuses();

  expect(status?.lastSeconds).toBeGreaterThan(0.008);
  expect(status?.seconds).toBeGreaterThan(0.016);
});

test("a wake-up between passes starts one", async () => {
  await using driver = new LoopDriver(quiet);
  let passes = 0;
  driver.start({ name: "rare", everyMs: NEVER_MS, run: async () => ({ passes: ++passes }) });
  await waitFor("the end of a pass", () => driver.statuses()[0]?.passes, {
    holds: (count) => count === 1,
  });
  await Bun.sleep(1);

  driver.wake("rare");

  await waitFor("the second pass", () => passes, { holds: (count) => count === 2 });
});

test("a failing pass is logged once, remembered, and followed by the next", async () => {
  const lines: string[] = [];
  await using driver = new LoopDriver(createLog("info", (line) => lines.push(line)));
  let passes = 0;

  driver.start({
    name: "failing",
    everyMs: 1,
    run: async () => {
      if (++passes <= 3) throw new Error("no luck");
      return {};
    },
  });
  await waitFor("passes without an error", () => driver.statuses()[0]?.lastError, {
    holds: (error) => error === null && passes > 3,
  });

  expect(driver.statuses()[0]).toMatchObject({ failures: 3, lastError: null });
  expect(driver.statuses()[0]?.lastEndedAt?.getTime()).toBeLessThanOrEqual(Date.now());
  expect(lines.map((line) => JSON.parse(line).message)).toEqual([
    "loop pass failed",
    "loop works again",
  ]);
});

test("disposing waits for the pass under way and starts no other", async () => {
  const driver = new LoopDriver(quiet);
  const { loop, passes } = steppedLoop(1);
  driver.start(loop);
  await waitFor("the first pass", () => passes.length, { holds: (count) => count === 1 });

  let isDisposed = false;
  const disposed = driver[Symbol.asyncDispose]().then(() => {
    isDisposed = true;
  });
  await Bun.sleep(5);
  expect(isDisposed).toBe(false);
  passes[0]?.resolve();
  await disposed;

  expect(passes).toHaveLength(1);
});
