import { expect, test } from "bun:test";
import { ActivityClock } from "./activity.ts";

const START = new Date(0);

function clockAt(times: { now: Date }): ActivityClock {
  const clock = new ActivityClock(() => times.now);
  clock.start("a", START);
  return clock;
}

test("a capsule was active when it was last in use", () => {
  const times = { now: new Date(1000) };
  const clock = clockAt(times);
  expect(clock.lastActiveAt("a")).toEqual(START);

  clock.hold("a")[Symbol.dispose]();
  times.now = new Date(9000);

  expect(clock.lastActiveAt("a")).toEqual(new Date(1000));
});

test("a capsule is active until its longest use ends", () => {
  const times = { now: new Date(1000) };
  const clock = clockAt(times);
  const long = clock.hold("a");
  clock.hold("a")[Symbol.dispose]();
  times.now = new Date(9000);
  expect(clock.lastActiveAt("a")).toEqual(new Date(9000));

  long[Symbol.dispose]();
  times.now = new Date(20_000);

  expect(clock.lastActiveAt("a")).toEqual(new Date(9000));
});

test("only what changed is saved, and once", () => {
  const times = { now: new Date(1000) };
  const clock = clockAt(times);
  clock.start("idle", START);
  clock.hold("a")[Symbol.dispose]();

  expect([...clock.takeUnsaved()]).toEqual([["a", new Date(1000)]]);
  expect([...clock.takeUnsaved()]).toEqual([]);
});

test("a use that ends after its capsule leaves nothing behind", () => {
  const clock = clockAt({ now: new Date(1000) });
  const hold = clock.hold("a");
  clock.forget("a");

  hold[Symbol.dispose]();

  expect([...clock.takeUnsaved()]).toEqual([]);
});
