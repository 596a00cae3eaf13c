import { expect, test } from "bun:test";
import { isDueAnyway } from "./renewal.ts";

const HOUR_MS = 3600_000;
const NOW = new Date("2026-01-01T00:00:00Z");

test.each([
  ["young", 23, 0.1, false],
  ["half over", 11.9, 12.1, true],
  ["told to be over by a clock that jumped, soon after it was got", -700, 0.9, false],
  ["told so still an hour later", -700, 1.1, true],
  ["told to be good for a month, soon after it was got", 720, 0.9, false],
  ["told so all day", 720, 12.1, true],
  ["an earlier process' own, and young", 20, null, false],
  ["an earlier process' own, and old", 1, null, true],
  ["an earlier process' own, by a clock that is behind", 26, null, true],
])("one that is %s: %p h left, %p h old, is due: %p", (_, leftHours, ageHours, expected) => {
  const expiresAt = new Date(NOW.getTime() + leftHours * HOUR_MS);
  const ageMs = ageHours === null ? null : ageHours * HOUR_MS;

  expect(isDueAnyway(expiresAt, NOW, ageMs)).toBe(expected);
});
