import { expect, test } from "bun:test";
import { ActivityMarks } from "./activity-marks.ts";

test("a busy capsule is written once in five seconds, and each by itself", () => {
  let nowMs = 0;
  const marks = new ActivityMarks(() => nowMs);
  const seen: boolean[] = [];

  for (const [atMs, id] of [
    [0, "a"],
    [4999, "a"],
    [5000, "b"],
    [5001, "a"],
    [5002, "a"],
  ] as const) {
    nowMs = atMs;
    seen.push(marks.isDue(id));
  }

  expect(seen).toEqual([true, false, true, true, false]);
});

test("marks of many capsules are bounded", () => {
  const marks = new ActivityMarks(() => 0);
  for (let i = 0; i < 20_000; i++) marks.isDue(`cl-${i}`);
  expect(marks.isDue("cl-0")).toBe(false);

  marks.isDue("cl-20000");

  expect(marks.isDue("cl-0")).toBe(true);
});
