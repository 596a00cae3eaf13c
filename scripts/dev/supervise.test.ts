import { expect, test } from "bun:test";
import { Backoff } from "./supervise.ts";

/** When a program that ends `livesMs` after each start is started again, in seconds. */
function restarts(count: number, livesMs: number): number[] {
  const backoff = new Backoff();
  const found: number[] = [];
  for (let nowMs = 0; found.length < count; nowMs += 500) {
    const last = found.at(-1);
    if (last !== undefined && nowMs < last + livesMs) continue;
    if (!backoff.isDue(nowMs)) continue;
    backoff.attempted(nowMs);
    found.push(nowMs);
  }
  return found.map((ms) => ms / 1000);
}

test("what does not stay up is started again ever later, up to half a minute", () => {
  const at = restarts(10, 0);

  expect(at.slice(0, 6)).toEqual([0, 0.5, 1.5, 3.5, 7.5, 15.5]);
  expect((at[9] ?? 0) - (at[8] ?? 0)).toBe(30);
});

test("what ran for some minutes is started again at once", () => {
  expect(restarts(4, 120_000)).toEqual([0, 120, 240, 360]);
});
