import { expect, test } from "bun:test";
import { AppError } from "./errors.ts";
import { parseId, timestamp } from "./wire.ts";

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
