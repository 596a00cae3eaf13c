import { expect, test } from "bun:test";
import { CAPSULE_STATES, ENDED_STATES, HOLDING_STATES, PAUSED_STATES } from "../capsule-states.ts";
import { isLegalMove, MOVES, WIRE_STATUSES, wireStatus } from "./lifecycle.ts";

test("every state but stopped and stopping can be destroyed", () => {
  const destroyable = CAPSULE_STATES.filter((state) => isLegalMove(state, "stopping"));

  expect(destroyable).toEqual(
    CAPSULE_STATES.filter((state) => state !== "stopping" && state !== "stopped"),
  );
});

test("stopped is final, and stopping leads nowhere else", () => {
  expect([MOVES.stopped, MOVES.stopping]).toEqual([[], ["stopped"]]);
});

test("no state follows itself", () => {
  expect(CAPSULE_STATES.filter((state) => isLegalMove(state, state))).toEqual([]);
});

test("clients see only the statuses they know, and three aliases", () => {
  const seen = CAPSULE_STATES.map((state) => wireStatus(state));
  const aliases = CAPSULE_STATES.filter((state) => wireStatus(state) !== state);

  expect(seen.every((status) => WIRE_STATUSES.includes(status))).toBe(true);
  expect(aliases.map((state) => [state, wireStatus(state)])).toEqual([
    ["pausing", "running"],
    ["resuming", "starting"],
    ["stopping", "stopped"],
  ]);
});

// A state in none of the groups would be forgotten by the scheduler.
test("a capsule holds its host's resources, rests on it, or has left it", () => {
  const groups = [...HOLDING_STATES, ...PAUSED_STATES, ...ENDED_STATES, "hibernated"];

  expect(groups.toSorted()).toEqual([...CAPSULE_STATES].toSorted());
});
