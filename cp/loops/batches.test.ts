import { expect, test } from "bun:test";
import { inBatches } from "./batches.ts";

test("batches go on until one is not full", async () => {
  let left = 25;
  const limits: number[] = [];
  const batch = async (limit: number) => {
    limits.push(limit);
    const done = Math.min(left, limit);
    left -= done;
    return done;
  };
  const { signal: ending } = new AbortController();

  expect(await inBatches({ limit: 10, ending }, batch)).toBe(25);
  expect(limits).toEqual([10, 10, 10]);
});

test("no batch begins once the process is ending", async () => {
  const controller = new AbortController();
  const batch = async (limit: number) => {
    controller.abort();
    return limit;
  };

  expect(await inBatches({ limit: 10, ending: controller.signal }, batch)).toBe(10);
});
