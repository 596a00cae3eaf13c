import { expect, test } from "bun:test";
import { SharedLookups } from "./shared-lookups.ts";

/** A look-up whose answers a test gives one by one. */
function stepped() {
  const asked: { key: string; answer: PromiseWithResolvers<string> }[] = [];
  const look = (key: string) => {
    const answer = Promise.withResolvers<string>();
    asked.push({ key, answer });
    return answer.promise;
  };
  const lookups = new SharedLookups(look, (key) => key);
  return { lookups, asked };
}

test("who asks alone is looked up at once, each time", async () => {
  const { lookups, asked } = stepped();

  const first = lookups.of("a");
  asked[0]?.answer.resolve("1");
  await first;
  const second = lookups.of("a");
  asked[1]?.answer.resolve("2");

  expect([await first, await second]).toEqual(["1", "2"]);
});

// A key that was revoked after the query was sent must not pass for who asks after that.
test("who asks while a look-up is under way gets none that began before", async () => {
  const { lookups, asked } = stepped();

  const first = lookups.of("a");
  const later = [lookups.of("a"), lookups.of("a")];
  expect(asked).toHaveLength(1);
  asked[0]?.answer.resolve("before");
  await first;
  await Bun.sleep(0);
  const latest = lookups.of("a");
  expect(asked).toHaveLength(2);
  asked[1]?.answer.resolve("after");
  const shared = await Promise.all(later);
  await Bun.sleep(0);
  asked[2]?.answer.resolve("at last");

  expect([await first, shared, await latest]).toEqual(["before", ["after", "after"], "at last"]);
});

test("keys wait for themselves only", async () => {
  const { lookups, asked } = stepped();

  const values = [lookups.of("a"), lookups.of("b")];
  for (const { key, answer } of asked) answer.resolve(key);

  expect(await Promise.all(values)).toEqual(["a", "b"]);
});

test("a failure is told to those who share it, and to nobody after them", async () => {
  const { lookups, asked } = stepped();

  const failing = lookups.of("a");
  const later = lookups.of("a");
  asked[0]?.answer.reject(new Error("away"));
  await expect(failing).rejects.toThrow("away");
  await Bun.sleep(0);
  asked[1]?.answer.resolve("back");

  expect(await later).toBe("back");
});
