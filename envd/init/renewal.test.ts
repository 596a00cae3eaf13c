import { expect, test } from "bun:test";
import { clockAdvanceNs } from "./renewal.ts";

const now = (offsetMs: number) => BigInt(Date.now() + offsetMs) * 1_000_000n;

test("what the host measured moves the clock, whatever time its message bears", () => {
  const timestampNs = now(-600_000);

  expect([
    clockAdvanceNs({ clockAdvanceUs: 3_600_000_000, timestampNs }),
    clockAdvanceNs({ clockAdvanceUs: 5_001, timestampNs }),
    clockAdvanceNs({ clockAdvanceUs: -20_001, timestampNs }),
  ]).toEqual([3_600_000_000_000n, 5_001_000n, -20_001_000n]);
});

test("a clock that is close is left alone, above all one that is ahead", () => {
  expect([
    clockAdvanceNs({ clockAdvanceUs: 5_000 }),
    clockAdvanceNs({ clockAdvanceUs: 0 }),
    clockAdvanceNs({ clockAdvanceUs: -20_000 }),
    clockAdvanceNs({}),
  ]).toEqual([null, null, null, null]);
});

test("a message that only bears a time moves the clock to it, and back only by much", () => {
  const advanceMs = (offsetMs: number) => {
    const advanceNs = clockAdvanceNs({ timestampNs: now(offsetMs) });
    return advanceNs === null ? null : Number(advanceNs / 1_000_000n);
  };

  expect(advanceMs(60_000)).toBeWithin(59_000, 60_001);
  expect(advanceMs(-60_000)).toBeWithin(-61_000, -59_999);
  expect([advanceMs(0), advanceMs(-3_000)]).toEqual([null, null]);
});
