import { expect, test } from "bun:test";
import { inTurn, median } from "./rows.ts";

test("the median of an odd number is the middle, of an even number the mean of the middle two", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(() => median([])).toThrow("no values");
});

test("both sides run equally often, each first every other time", async () => {
  const order: string[] = [];

  await inTurn(
    4,
    async () => order.push("ours"),
    async () => order.push("baseline"),
  );

  expect(order.join(" ")).toBe("ours baseline baseline ours ours baseline baseline ours");
});

test("the ratio is that of pairs of runs, whatever the machine did between them", async () => {
  // The second pair runs on a machine that is slow, the third on one that becomes faster between its runs.
  const ours = [200, 20, 20];
  const baseline = [100, 10, 100];
  const next = (figures: number[]) => async () => figures.shift() ?? Number.NaN;

  const measured = await inTurn(3, next(ours), next(baseline));

  expect(measured).toEqual({ ours: 20, baseline: 100, ratio: 2, runs: 3 });
});
