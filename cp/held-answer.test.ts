import { expect, test } from "bun:test";
import { threadMs } from "../tests/harness/longest-pause.ts";
import { endWithin, holdOf } from "./held-answer.ts";

test.each([
  [null, 25_000, null],
  ["", 25_000, null],
  ["respond-async", 0, "respond-async"],
  ["Respond-Async", 0, "respond-async"],
  ["wait=7", 7000, "wait=7"],
  ['wait = "7"', 7000, "wait=7"],
  ["wait=0", 0, "wait=0"],
  ["wait=100000", 300_000, "wait=300"],
  ["respond-async, wait=3", 3000, "respond-async, wait=3"],
  ["wait=3,respond-async", 3000, "respond-async, wait=3"],
  ["return=minimal; foo=bar, respond-async;q=1", 0, "respond-async"],
  ["wait=3, wait=9", 3000, "wait=3"],
  // What is none of ours, or malformed, is as if it were not there.
  ["wait", 25_000, null],
  ["wait=-1", 25_000, null],
  ["wait=1.5", 25_000, null],
  ["wait=ten", 25_000, null],
  ["wait=99999999999", 25_000, null],
  ["respond-async=yes", 25_000, null],
  ["handling=lenient", 25_000, null],
  [",,;=,", 25_000, null],
])("Prefer: %j holds an answer %d ms and applies %j", (prefer, waitMs, applied) => {
  expect(holdOf(prefer, 25)).toEqual({ waitMs, applied });
});

test("a preference of any length is read in no time", () => {
  const startedAtMs = threadMs();

  for (const prefer of [
    "a=".repeat(8000),
    " ".repeat(16_000),
    ",".repeat(16_000),
    '"'.repeat(16_000),
  ]) {
    holdOf(prefer, 25);
  }

  expect(threadMs() - startedAtMs).toBeLessThan(500);
});

test("what ends in time is told, what does not is not waited for, what fails is thrown", async () => {
  const never = new Promise<string>(() => {});

  expect(await endWithin(Promise.resolve("done"), { waitMs: 0, applied: null })).toEqual({
    result: "done",
  });
  expect(await endWithin(never, { waitMs: 1, applied: null })).toBeNull();
  const failed = Promise.withResolvers<string>();
  const ended = endWithin(failed.promise, { waitMs: 1000, applied: null });
  failed.reject(new Error("no"));
  await expect(ended).rejects.toThrow("no");
});
