import { expect, test } from "bun:test";
import { advanceUs, type ClockReading, readClock } from "./guest-clock.ts";

/** A guest whose clock is behind; each exchange takes what the next pair says, there and back. */
async function read(behindMs: number, exchanges: [number, number][]): Promise<ClockReading> {
  let nowMs = 1_000_000;
  const left = [...exchanges];
  const ask = async () => {
    const [thereMs, backMs] = left.shift() ?? exchanges.at(-1) ?? [0, 0];
    nowMs += thereMs;
    const guestMs = nowMs - behindMs;
    nowMs += backMs;
    return guestMs;
  };
  return readClock(ask, () => nowMs);
}

test("a quick exchange is enough, and tells how far the clock is off", async () => {
  expect(await read(3_000, [[2, 2]])).toEqual({ behindMs: 3_000, errorMs: 2, roundTripMs: 4 });
  expect(await read(-3_000, [[2, 2]])).toMatchObject({ behindMs: -3_000 });
});

test("the quickest exchange counts, whatever the slow ones say", async () => {
  const reading = await read(500, [
    [90, 1],
    [1, 70],
    [3, 5],
  ]);

  expect(reading).toEqual({ behindMs: 501, errorMs: 4, roundTripMs: 8 });
});

test("where every exchange is lopsided and slow, the error is known, and bounded by trying on", async () => {
  const slow = Array.from({ length: 9 }, (): [number, number] => [95, 5]);

  const reading = await read(500, [...slow, [25, 5]]);

  expect(reading).toEqual({ behindMs: 490, errorMs: 15, roundTripMs: 30 });
  expect(await read(500, slow)).toMatchObject({ errorMs: 50 });
});

test("a clock that may be right is left alone, and a guest whose time is none is not moved", async () => {
  const silent = await readClock(
    async () => null,
    () => 0,
  );

  expect([
    advanceUs(await read(4, [[5, 5]])),
    advanceUs(await read(40.5, [[5, 5]])),
    advanceUs(await read(-40.5, [[5, 5]])),
    advanceUs(silent),
    advanceUs(await read(-1e13, [[5, 5]])),
  ]).toEqual([0, 40_500, -40_500, null, null]);
});
