import { expect, test } from "bun:test";
import { MetricHistory, type MetricRange, SAMPLE_EVERY_MS } from "./metric-history.ts";

const START_MS = Date.UTC(2026, 0, 1);

/** A history of so many samples whose memory counts them from 1, and the time of the last one. */
function historyOf(samples: number): { history: MetricHistory; nowMs: number } {
  const history = new MetricHistory();
  let nowMs = START_MS;
  for (let i = 1; i <= samples; i++) {
    nowMs = START_MS + i * SAMPLE_EVERY_MS;
    history.push({ atMs: nowMs, cpuPercent: i % 2 ? 0 : 100, memoryBytes: i, diskBytes: 2 * i });
  }
  return { history, nowMs };
}

const seconds = (atMs: number) => (atMs - START_MS) / 1000;

test("nothing sampled is nothing told", () => {
  expect(new MetricHistory().within("10m", START_MS)).toEqual([]);
});

test("ten minutes are told sample by sample", () => {
  const { history, nowMs } = historyOf(3);

  expect(history.within("10m", nowMs)).toEqual([
    { atMs: START_MS + 500, cpuPercent: 0, memoryBytes: 1, diskBytes: 2 },
    { atMs: START_MS + 1000, cpuPercent: 100, memoryBytes: 2, diskBytes: 4 },
    { atMs: START_MS + 1500, cpuPercent: 0, memoryBytes: 3, diskBytes: 6 },
  ]);
});

test("hours are told in means of half a minute with the time of their last sample", () => {
  const { history, nowMs } = historyOf(120);

  expect(history.within("1h", nowMs)).toEqual([
    { atMs: START_MS + 30_000, cpuPercent: 50, memoryBytes: 31, diskBytes: 61 },
    { atMs: START_MS + 60_000, cpuPercent: 50, memoryBytes: 91, diskBytes: 181 },
  ]);
});

test("a day is told in means of five minutes, which are means of the half minutes", () => {
  const { history, nowMs } = historyOf(600);

  expect(history.within("24h", nowMs)).toEqual([
    { atMs: START_MS + 300_000, cpuPercent: 50, memoryBytes: 301, diskBytes: 601 },
  ]);
});

test("a mean that is not complete is not told", () => {
  const { history, nowMs } = historyOf(59);

  expect(history.within("2h", nowMs)).toEqual([]);
});

const DAY_SAMPLES = (25 * 3600 * 1000) / SAMPLE_EVERY_MS;
const full = historyOf(DAY_SAMPLES);
const last = seconds(full.nowMs);

test.each<{ range: MetricRange; points: number; firstSec: number; everySec: number }>([
  { range: "5m", points: 601, firstSec: last - 300, everySec: 0.5 },
  { range: "10m", points: 1200, firstSec: last - 599.5, everySec: 0.5 },
  { range: "1h", points: 121, firstSec: last - 3600, everySec: 30 },
  { range: "2h", points: 240, firstSec: last - 7170, everySec: 30 },
  { range: "6h", points: 73, firstSec: last - 6 * 3600, everySec: 300 },
  { range: "12h", points: 145, firstSec: last - 12 * 3600, everySec: 300 },
  { range: "24h", points: 288, firstSec: last - 24 * 3600 + 300, everySec: 300 },
])("after a day $range tells $points points from its beginning to now", (wanted) => {
  const points = full.history.within(wanted.range, full.nowMs);
  const times = points.map(({ atMs }) => seconds(atMs));

  expect(times.length).toBe(wanted.points);
  expect(times[0]).toBe(wanted.firstSec);
  expect(times.at(-1)).toBe(last);
  expect(times.slice(1).every((at, i) => at - (times[i] ?? 0) === wanted.everySec)).toBe(true);
});

test("samples older than the range are not told, though the ring still holds them", () => {
  const { history, nowMs } = historyOf(10);

  expect(history.within("5m", nowMs + 299_000).map(({ memoryBytes }) => memoryBytes)).toEqual([
    8, 9, 10,
  ]);
  expect(history.within("5m", nowMs + 301_000)).toEqual([]);
});

test("what a clock dated before it was set back is told when its time comes, in its place", () => {
  const history = new MetricHistory();
  const sample = (atMs: number, memoryBytes: number) =>
    history.push({ atMs, cpuPercent: 0, memoryBytes, diskBytes: 0 });
  sample(START_MS, 1);
  sample(START_MS + 60_000, 2);
  sample(START_MS + 60_500, 3);
  sample(START_MS + 500, 4);
  const seen = (atMs: number) => history.within("10m", atMs).map(({ memoryBytes }) => memoryBytes);

  expect(seen(START_MS + 500)).toEqual([1, 4]);
  sample(START_MS + 60_250, 5);
  expect(seen(START_MS + 60_500)).toEqual([1, 4, 2, 5, 3]);
});

test("a saved history goes on where it was; of another layout, or cut, there is none", () => {
  const { history, nowMs } = historyOf(700);
  const numbers = history.toNumbers();
  const other = numbers.slice();
  other[0] = 2;
  const read = MetricHistory.fromNumbers(numbers);
  const next = { atMs: nowMs + 500, cpuPercent: 1, memoryBytes: 2, diskBytes: 3 };
  for (const one of [history, read]) one?.push(next);

  expect(read?.toNumbers()).toEqual(history.toNumbers());
  expect(MetricHistory.fromNumbers(other)).toBe(null);
  expect(MetricHistory.fromNumbers(numbers.subarray(0, -1))).toBe(null);
});
