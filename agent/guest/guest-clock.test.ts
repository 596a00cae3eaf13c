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
  const reading = { behindMs: 2_999.5, errorMs: 2.5, roundTripMs: 4 };
  expect(await read(3_000, [[2, 2]])).toEqual(reading);
  expect(await read(-3_000, [[2, 2]])).toMatchObject({ behindMs: -3_000.5 });
});

test("exchanges that are slow in one direction each are exact together", async () => {
  const reading = await read(500, [
    [90, 1],
    [1, 70],
  ]);

  expect(reading).toEqual({ behindMs: 499.5, errorMs: 1.5, roundTripMs: 71 });
});

test("where every exchange is slow there, the error is known, and bounded by trying on", async () => {
  const slow = Array.from({ length: 9 }, (): [number, number] => [95, 5]);

  const reading = await read(500, [...slow, [25, 5]]);

  expect(reading).toEqual({ behindMs: 489.5, errorMs: 15.5, roundTripMs: 30 });
  expect(await read(500, slow)).toMatchObject({ errorMs: 50.5 });
});

test("a clock that is set while it is read is read anew", async () => {
  const guestMs = [0, 0, 5_000, 5_000, 5_000];
  const reading = await readClock(
    async () => guestMs.shift() ?? 5_000,
    (() => {
      let nowMs = 10_000;
      return () => (nowMs += 12);
    })(),
  );

  expect(reading.behindMs).toBeWithin(4_900, 5_200);
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
  ]).toEqual([0, 40_000, -41_000, null, null]);
});
