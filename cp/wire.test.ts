import { expect, test } from "bun:test";
import { AppError } from "./errors.ts";
import { parseId, parseInstant, timestamp } from "./wire.ts";

test("times are RFC 3339 in UTC, cut to the second", () => {
  expect(timestamp(new Date("2026-11-22T18:00:59.999Z"))).toBe("2026-11-22T18:00:59Z");
});

test.each(["", "team-1", `usr-${"0".repeat(25)}`, `team-${"z".repeat(25)}`])(
  "%p is no team's id, and the field is named",
  (text) => {
    expect(() => parseId("team", text, "team_id")).toThrow(
      new AppError("invalid_request", "team_id: not a valid id"),
    );
  },
);

// With its zone the last one lies in year 10000, and in the others the database has no such year.
test.each(["0000-06-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])(
  "%p is no time that is kept, and the field is named",
  (text) => {
    expect(() => parseInstant(text, "before")).toThrow(
      new AppError("invalid_request", "before: must be a time like 2030-01-31T12:00:00Z"),
    );
  },
);

test("the first and the last times that are kept are times", () => {
  const texts = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"];
  expect(texts.map((text) => timestamp(parseInstant(text, "before")))).toEqual(texts);
});
