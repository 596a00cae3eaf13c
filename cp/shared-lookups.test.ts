import { expect, test } from "bun:test";
import { SharedLookups } from "./shared-lookups.ts";

interface Found {
  readonly key: string;
  readonly value: string;
}

/** A look-up whose answers a test gives one by one. */
function stepped() {
  const queries: { keys: readonly string[]; answer: PromiseWithResolvers<readonly Found[]> }[] = [];
  const lookups = new SharedLookups<string, Found>({
    look: (keys) => {
      const answer = Promise.withResolvers<readonly Found[]>();
      queries.push({ keys, answer });
      return answer.promise;
    },
    keyOf: (key) => key,
    keyOfValue: ({ key }) => key,
  });
  /** Answers the query, then lets what follows from that happen. */
  const answer = async (query: number, value: string) => {
    const { keys = [], answer } = queries[query] ?? {};
    answer?.resolve(keys.map((key) => ({ key, value })));
    await Bun.sleep(0);
  };
  const of = async (key: string) => (await lookups.of(key))?.value;
  return { of, queries, answer, sent: () => queries.map(({ keys }) => keys.join("")) };
}

test("who asks alone is looked up at once, each time", async () => {
  const { of, answer } = stepped();

  const first = of("a");
  await answer(0, "1");
  const second = of("a");
  await answer(1, "2");

  expect([await first, await second]).toEqual(["1", "2"]);
});

// A key that was revoked after the query was sent must not pass for who asks after that.
test("who asks while a look-up is under way gets none that began before", async () => {
  const { of, answer, sent } = stepped();

  const first = of("a");
  const later = [of("a"), of("a")];
  expect(sent()).toEqual(["a"]);
  await answer(0, "before");
  const latest = of("a");
  expect(sent()).toEqual(["a", "a"]);
  await answer(1, "after");
  await answer(2, "at last");

  expect([await first, await Promise.all(later), await latest]).toEqual([
    "before",
    ["after", "after"],
    "at last",
  ]);
});

test("those who ask in the same round of the event loop share a query, but for the first", async () => {
  const { of, answer, sent } = stepped();

  const values = ["a", "b", "c", "b"].map(of);
  expect(sent()).toEqual(["a"]);
  await Bun.sleep(0);
  expect(sent()).toEqual(["a", "bc"]);
  await answer(1, "x");
  await answer(0, "y");

  expect(await Promise.all(values)).toEqual(["y", "x", "x", "x"]);
});

test("a slow query holds up few, and four of them those who come then", async () => {
  const { of, answer, sent } = stepped();
  const slow: Promise<string | undefined>[] = [];
  for (const key of ["a", "b", "c", "d"]) {
    slow.push(of(key));
    await Bun.sleep(0);
  }

  const more = ["e", "f", "a"].map(of);
  await Bun.sleep(0);
  expect(sent()).toEqual(["a", "b", "c", "d"]);
  await answer(2, "first");
  expect(sent().slice(4)).toEqual(["efa"]);
  await answer(4, "second");
  expect(await Promise.all(more)).toEqual(["second", "second", "second"]);
  for (const query of [0, 1, 3]) await answer(query, "slow");

  expect(await Promise.all(slow)).toEqual(["slow", "slow", "first", "slow"]);
});

test("one query has a bound, and what is beyond it is asked for by the next", async () => {
  const { of, queries, answer } = stepped();
  const keys = Array.from({ length: 301 }, (_, i) => `k${i}`);

  const values = keys.map(of);
  for (let query = 0; query < 3; query++) await answer(query, "x");

  expect(queries.map((query) => query.keys.length)).toEqual([1, 256, 44]);
  expect(new Set(await Promise.all(values))).toEqual(new Set(["x"]));
});

test("what there is nothing of is undefined, though others in the same query are found", async () => {
  const { of, queries, answer } = stepped();
  const first = of("a");
  const [found, missing] = [of("e"), of("f")];
  await answer(0, "x");

  queries[1]?.answer.resolve([{ key: "e", value: "y" }]);

  expect([await first, await found, await missing]).toEqual(["x", "y", undefined]);
});

test("a failure is told to those who share it, and to nobody after them", async () => {
  const { of, queries, answer } = stepped();

  const failing = of("a");
  const later = of("a");
  queries[0]?.answer.reject(new Error("away"));
  await expect(failing).rejects.toThrow("away");
  await Bun.sleep(0);
  await answer(1, "back");

  expect(await later).toBe("back");
});
