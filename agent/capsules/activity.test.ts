import { expect, test } from "bun:test";
import { ActivityClock } from "./activity.ts";

/** Two clocks that go together until one of them is set. */
class Clocks {
  wallMs = 1_000_000;
  monotonicMs = 50;

  pass(ms: number): void {
    this.wallMs += ms;
    this.monotonicMs += ms;
  }

  activity(): ActivityClock {
    const clock = new ActivityClock({
      now: () => new Date(this.wallMs),
      monotonicMs: () => this.monotonicMs,
    });
    clock.start("a", new Date(this.wallMs));
    return clock;
  }
}

/** What the clock has to write. */
function saved(clock: ActivityClock): [string, Date][] {
  let written: [string, Date][] = [];
  clock.save((times) => {
    written = [...times];
  });
  return written;
}

test("a capsule was active when it was last in use", () => {
  const clocks = new Clocks();
  const clock = clocks.activity();
  clocks.pass(1000);
  expect(clock.lastActiveAt("a")).toEqual(new Date(1_000_000));

  clock.hold("a")[Symbol.dispose]();
  clocks.pass(8000);

  expect(clock.lastActiveAt("a")).toEqual(new Date(1_001_000));
  expect(clock.idleMs("a")).toBe(8000);
});

test("a capsule is active until its longest use ends", () => {
  const clocks = new Clocks();
  const clock = clocks.activity();
  const long = clock.hold("a");
  clock.hold("a")[Symbol.dispose]();
  clocks.pass(8000);
  expect([clock.idleMs("a"), clock.lastActiveAt("a")]).toEqual([0, new Date(1_008_000)]);

  long[Symbol.dispose]();
  clocks.pass(11_000);

  expect(clock.lastActiveAt("a")).toEqual(new Date(1_008_000));
});

test.each([
  ["forward", 3_600_000],
  ["back", -3_600_000],
])("a host whose time is set %s has unused capsules for as long as before", (_way, stepMs) => {
  const clocks = new Clocks();
  const clock = clocks.activity();
  clocks.pass(2000);

  clocks.wallMs += stepMs;

  expect(clock.idleMs("a")).toBe(2000);
  expect(clock.lastActiveAt("a")).toEqual(new Date(clocks.wallMs - 2000));
});

test("one that was used before the agent started was unused meanwhile, one of the future was not", () => {
  const clocks = new Clocks();
  const clock = clocks.activity();

  clock.start("before", new Date(clocks.wallMs - 700_000));
  clock.start("future", new Date(clocks.wallMs + 700_000));

  expect([clock.idleMs("before"), clock.idleMs("future")]).toEqual([700_000, 0]);
});

test("only what changed is saved, and once", () => {
  const clocks = new Clocks();
  const clock = clocks.activity();
  clock.start("idle", new Date(clocks.wallMs));
  clock.hold("a")[Symbol.dispose]();

  expect(saved(clock)).toEqual([["a", new Date(1_000_000)]]);
  expect(saved(clock)).toEqual([]);
});

test("a use that goes on is saved again and again", () => {
  const clocks = new Clocks();
  const clock = clocks.activity();
  using _long = clock.hold("a");
  expect(saved(clock)).toEqual([["a", new Date(1_000_000)]]);

  clocks.pass(8000);

  expect(saved(clock)).toEqual([["a", new Date(1_008_000)]]);
});

test("a use that ends after its capsule leaves nothing behind", () => {
  const clock = new Clocks().activity();
  const hold = clock.hold("a");
  clock.forget("a");

  hold[Symbol.dispose]();

  expect(saved(clock)).toEqual([]);
});

test("what could not be written is written the next time", () => {
  const clock = new Clocks().activity();
  clock.hold("a")[Symbol.dispose]();
  const full = () => {
    throw new Error("no space");
  };

  expect(() => clock.save(full)).toThrow("no space");

  expect(saved(clock)).toEqual([["a", new Date(1_000_000)]]);
  expect(saved(clock)).toEqual([]);
});
