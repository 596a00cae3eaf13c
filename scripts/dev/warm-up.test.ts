import { expect, test } from "bun:test";
import { WARM_WAIT_MS, type WarmCounts, warmUp } from "./warm-up.ts";

const NONE: WarmCounts = { hits: 0, misses: 0, made: 0, failed: 0 };
const MISSED = { ...NONE, misses: 1 };
const QUICK_MS = 500;

/** Those counts, one after the other; the last for ever. */
function answers(...counts: WarmCounts[]) {
  let asked = 0;
  return { asked: () => asked, counts: async () => counts[asked++] ?? counts.at(-1) ?? NONE };
}

test("what is made soon is waited for", async () => {
  const { asked, counts } = answers(MISSED, MISSED, { ...MISSED, made: 1 });

  expect([await warmUp(NONE, QUICK_MS, counts), asked()]).toEqual(["warm", 3]);
});

test("what was there already needs no wait, nor does what nobody makes", async () => {
  const of = (counts: WarmCounts) => warmUp(NONE, QUICK_MS, answers(counts).counts);

  expect([
    await of({ ...NONE, hits: 1 }),
    await of(NONE),
    await of({ ...MISSED, failed: 1 }),
  ]).toEqual(["warm", "off", "off"]);
});

test("what takes as long as a boot that took long is not waited for", async () => {
  const { asked, counts } = answers(MISSED);

  expect([await warmUp(NONE, WARM_WAIT_MS + 1, counts), asked()]).toEqual(["warming", 1]);
});

test("a wait ends at its bound", async () => {
  const startedAt = performance.now();

  expect(await warmUp(NONE, QUICK_MS, answers(MISSED).counts)).toBe("warming");
  expect(performance.now() - startedAt).toBeWithin(WARM_WAIT_MS, WARM_WAIT_MS + 1000);
});
