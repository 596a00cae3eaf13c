import { expect, test } from "bun:test";
import { frontLimits } from "./limits.ts";

test.each([
  [1_048_576, 20_000, 2_000],
  [20_000, 4_872, 2_000],
  [4_096, 896, 448],
])("of %i open files, connections and those of an address take their part", (files, all, one) => {
  const { connectionsMax, connectionsPerAddressMax } = frontLimits(files);

  expect([connectionsMax, connectionsPerAddressMax]).toEqual([all, one]);
});

test("a process that may open next to nothing does not start", () => {
  expect(() => frontLimits(512)).toThrow("ulimit -n");
});
