import { expect, test } from "bun:test";
import { CAPSULE_STATES, ENDED_STATES, HOLDING_STATES, PAUSED_STATES } from "../capsule-states.ts";
import { isLegalMove, MOVES } from "./lifecycle.ts";

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

// A state in none of the groups would be forgotten by the scheduler.
test("a capsule holds its host's resources, rests on it, or has left it", () => {
  const groups = [...HOLDING_STATES, ...PAUSED_STATES, ...ENDED_STATES, "hibernated"];

  expect(groups.toSorted()).toEqual([...CAPSULE_STATES].toSorted());
});
