import { describe, expect, test } from "bun:test";
import type { CapsuleRow, JournalState } from "../journal/journal.ts";
import { planRecovery } from "./recovery-plan.ts";

function row(id: string, state: JournalState): CapsuleRow {
  return {
    spec: {
      id,
      operationId: "o",
      vcpus: 1,
      memoryMib: 256,
      diskMib: 5120,
      timeoutSec: 0,
      teamId: "t",
      templateId: "t",
      templateTeamId: "t",
      defaultUser: "",
      defaultEnvs: {},
      accessToken: "a",
    },
    state,
    step: "vmm",
    slot: 1,
    envdVersion: "",
    reason: "",
    createdAt: new Date(0),
    lastActiveAt: new Date(0),
    pause: null,
  };
}

const NOTHING = {
  adopt: [],
  pauses: [],
  undo: [],
  finish: [],
  died: [],
  strangers: [],
  unknownDisks: [],
};

describe("what becomes of a row", () => {
  const cases: [JournalState, boolean, keyof typeof NOTHING][] = [
    ["creating", false, "undo"],
    // Nobody was told that it runs, and its guest may not know its token.
    ["creating", true, "undo"],
    ["running", true, "adopt"],
    ["running", false, "died"],
    ["pausing", true, "pauses"],
    ["pausing", false, "died"],
    ["paused", true, "pauses"],
    ["paused", false, "pauses"],
    ["resuming", true, "pauses"],
    ["resuming", false, "pauses"],
    ["destroying", false, "finish"],
    ["destroying", true, "finish"],
    ["failed", false, "died"],
    ["failed", true, "died"],
  ];
  test.each(cases)("%s, its VMM alive: %p -> %s", (state, isAlive, decision) => {
    const plan = planRecovery([row("a", state)], {
      alive: new Set(isAlive ? ["a"] : []),
      traces: ["a"],
      disks: ["a"],
    });

    expect(plan).toEqual({ ...NOTHING, [decision]: [row("a", state)] });
  });
});

test("traces and disks that no row names are told apart", () => {
  const plan = planRecovery([row("a", "running")], {
    alive: new Set(["a"]),
    traces: ["a", "b"],
    disks: ["a", "c"],
  });

  expect(plan).toEqual({
    ...NOTHING,
    adopt: [row("a", "running")],
    strangers: ["b"],
    unknownDisks: ["c"],
  });
});

test("an empty host and an empty journal agree", () => {
  expect(planRecovery([], { alive: new Set(), traces: [], disks: [] })).toEqual(NOTHING);
});
