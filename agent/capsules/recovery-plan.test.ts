import { describe, expect, test } from "bun:test";
import type { CapsuleRow, JournalState } from "../journal/journal.ts";
import { newPause, type PauseRecord } from "../journal/pause-record.ts";
import { type Decision, decide, findUnknown } from "./recovery-plan.ts";

function row(id: string, state: JournalState, pause: PauseRecord | null = null): CapsuleRow {
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
    reason: "",
    operationId: "",
    resumedFrom: "",
    slot: 1,
    envdVersion: "",
    endedOperations: [],
    createdAt: new Date(0),
    lastActiveAt: new Date(0),
    pause,
  };
}

const HELD = newPause("requested");
const PAUSES = {
  "no pause": null,
  held: HELD,
  durable: { ...HELD, generation: 1, durableAtMs: 5, diskGeneration: 1 },
  lost: { ...HELD, generation: 1, isLost: true },
} as const;

describe("what becomes of a row", () => {
  const cases: [JournalState, keyof typeof PAUSES, boolean, Decision][] = [
    ["starting", "no pause", false, "undo create"],
    // Nobody was told that it runs, and its guest may not know its token.
    ["starting", "no pause", true, "undo create"],
    ["running", "no pause", true, "adopt"],
    ["running", "no pause", false, "fail"],
    ["snapshotting", "no pause", true, "run on"],
    ["snapshotting", "no pause", false, "fail"],
    ["pausing", "held", true, "run on"],
    ["pausing", "held", false, "fail"],
    ["paused", "held", true, "seal"],
    ["paused", "held", false, "seal"],
    ["paused", "durable", true, "seal"],
    ["resuming", "held", true, "finish resume"],
    ["resuming", "held", false, "undo resume"],
    // Nobody was told that it runs: its memory is what was sealed.
    ["resuming", "durable", true, "undo resume"],
    ["resuming", "durable", false, "undo resume"],
    ["resuming", "lost", true, "undo resume"],
    ["resuming", "no pause", true, "undo resume"],
    ["stopping", "no pause", false, "destroy"],
    ["stopping", "no pause", true, "destroy"],
    ["error", "no pause", false, "keep"],
    ["error", "no pause", true, "keep"],
  ];
  test.each(cases)("%s, %s, its VMM alive: %p -> %s", (state, pause, isAlive, decision) => {
    expect(decide(row("a", state, PAUSES[pause]), { isAlive })).toBe(decision);
  });
});

test("traces and disks that no row names are told apart", () => {
  const host = { traces: ["a", "b"], disks: ["a", "c"] };

  expect(findUnknown([row("a", "running")], host)).toEqual({ strangers: ["b"], disks: ["c"] });
});

test("an empty host and an empty journal agree", () => {
  expect(findUnknown([], { traces: [], disks: [] })).toEqual({ strangers: [], disks: [] });
});
