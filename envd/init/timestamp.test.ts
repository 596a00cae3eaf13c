import { expect, test } from "bun:test";
import { parseTimestamp } from "./timestamp.ts";

test("times keep their nanoseconds", () => {
  expect([
    parseTimestamp("2026-11-22T18:00:00Z"),
    parseTimestamp("2026-11-22T18:00:00.123456789Z"),
    parseTimestamp("2026-11-22T19:00:00.5+01:00"),
    parseTimestamp(1795370400.25),
  ]).toEqual([
    1795370400000000000n,
    1795370400123456789n,
    1795370400500000000n,
    1795370400250000000n,
  ]);
});

test("what is no time is null", () => {
  for (const value of ["", "yesterday", "2026-13-01T00:00:00Z", -1, Number.NaN, null, {}]) {
    expect(parseTimestamp(value)).toBeNull();
  }
});
