import { expect, test } from "bun:test";
import { waitFor } from "./wait-for.ts";

test("what comes is returned", async () => {
  let looks = 0;

  expect(await waitFor("the third look", () => ++looks, { holds: (seen) => seen === 3 })).toBe(3);
});

test("what does not come is named, with what was seen last", async () => {
  const waiting = waitFor("a capsule", async () => ({ status: "starting" }), {
    holds: ({ status }) => status === "running",
    timeoutMs: 30,
  });

  await expect(waiting).rejects.toThrow(
    /^waited 0.03 s in vain for a capsule; seen last: \{\s+status: "starting",\s+\}$/,
  );
});

test("a look that never ends is bounded, too", async () => {
  const waiting = waitFor("an answer", () => new Promise<boolean>(() => {}), { timeoutMs: 30 });

  await expect(waiting).rejects.toThrow("for an answer; seen last: nothing, the first look");
});

test("a look that fails ends the wait at once", async () => {
  const waiting = waitFor("a file", () => Promise.reject(new Error("EACCES")));

  await expect(waiting).rejects.toThrow("EACCES");
});
