import { expect, test } from "bun:test";
import { newId } from "../../proto/ids.ts";
import { NO_LIMITS } from "../../tests/harness/no-limits.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { effectiveLimits, requireRoom } from "./placing.ts";

const defaults = { ...NO_LIMITS, capsules: 5, vcpus: 8 };

test("what was said of a team goes before the settings, also that it has no limit", () => {
  expect(effectiveLimits(newId("team"), { own: { capsules: 0, diskMb: 7 }, defaults })).toEqual({
    ...NO_LIMITS,
    ...{ capsules: 0, vcpus: 8, diskMb: 7 },
  });
});

test("the platform's own team is held to nothing but what was said of it", () => {
  const own = { vcpus: 3 };
  expect(effectiveLimits(PLATFORM_TEAM, { own, defaults })).toEqual({ ...NO_LIMITS, vcpus: 3 });
});

// After a limit was lowered.
test("who has too much of one thing may have what costs nothing more of it", () => {
  const limits = { ...NO_LIMITS, capsules: 2, diskMb: 10 };
  const used = { capsules: 1, diskMb: 50 };

  expect(requireRoom(limits, used, { capsules: 1, diskMb: 0 })).toBeUndefined();
  expect(() => requireRoom(limits, used, { capsules: 2 })).toThrow("asks for 2 more");
  expect(() => requireRoom(limits, used, { diskMb: 1 })).toThrow("has 50 and asks for 1 more");
});
