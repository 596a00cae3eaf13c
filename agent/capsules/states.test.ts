// The table of a capsule's life, over a real journal: what may follow what, what the next agent reads, what a
// journal that cannot be written leaves, and that nobody moves a capsule out of a state that is over.

import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { Journal } from "../journal/journal.ts";
import { newPause } from "../journal/pause-record.ts";
import { ENDED_OPERATIONS_KEPT } from "../limits.ts";
import { Log } from "../log.ts";
import { newCapsule } from "./capsule.ts";
import {
  type CapsuleState,
  CapsuleStates,
  type CapsuleStatus,
  Operation,
  operationOf,
  type Paused,
  type Resuming,
  type Running,
  stateOf,
  untilSettled,
  whenSettled,
} from "./states.ts";

const SPEC: CapsuleSpec = {
  id: "cl-a",
  operationId: "create",
  vcpus: 1,
  memoryMib: 256,
  diskMib: 5120,
  timeoutSec: 60,
  teamId: "team",
  templateId: "template",
  templateTeamId: "owner",
  defaultUser: "root",
  defaultEnvs: {},
  accessToken: "token",
};
const RUNNING: Running = { status: "running", resumed: { operationId: "resume", from: "disk" } };
const FRESH: Running = { status: "running", resumed: null };
const PAUSED: Paused = { status: "paused", pause: { ...newPause("ttl_expired"), generation: 3 } };
const FAILED = { status: "error", reason: "its VMM ended", isDoomed: false } as const;
const DOOMED = { status: "error", reason: "it stays", isDoomed: true } as const;

const operation = new Operation("operation");
const STATES: Record<string, CapsuleState> = {
  starting: { status: "starting", operation: new Operation("create") },
  running: RUNNING,
  "running since its create": FRESH,
  snapshotting: { status: "snapshotting", operation: new Operation(""), before: RUNNING },
  pausing: { status: "pausing", operation, before: FRESH, pause: newPause("requested") },
  paused: PAUSED,
  "resuming from a pause": { status: "resuming", operation, before: PAUSED },
  "resuming from an error": { status: "resuming", operation, before: FAILED },
  stopping: { status: "stopping", operation: new Operation("") },
  error: FAILED,
  doomed: DOOMED,
};

/** Of the states, in the order of STATES' statuses: what each may be followed by. */
const LEGAL: Record<CapsuleStatus, readonly CapsuleStatus[]> = {
  starting: ["running", "stopping", "error"],
  running: ["snapshotting", "pausing", "stopping", "error"],
  snapshotting: ["running", "stopping", "error"],
  pausing: ["running", "paused", "stopping", "error"],
  paused: ["paused", "resuming", "stopping", "error"],
  resuming: ["running", "paused", "resuming", "stopping", "error"],
  stopping: ["error"],
  error: ["resuming", "stopping"],
};

let dir: string;
let journal: Journal;
let states: CapsuleStates;
let log: string[];

beforeEach(async () => {
  // Hundreds of moves, each of them synced.
  dir = await mkdtemp("/dev/shm/wrenn-states-");
  journal = new Journal(join(dir, "journal.db"));
  log = [];
  states = new CapsuleStates(
    journal,
    new Log({ level: "info", write: (line) => void log.push(line) }),
  );
});

afterEach(async () => {
  journal[Symbol.dispose]();
  await rm(dir, { recursive: true });
});

function capsuleIn(state: CapsuleState) {
  journal.forget(SPEC.id);
  journal.claim(SPEC, new Date(0));
  const createdAt = new Date(0);
  return newCapsule({ spec: SPEC, state, envdVersion: "0.6.13", createdAt });
}

/** Another program writes to the journal until this is disposed, so that nobody else can. */
function holdJournal(): Disposable {
  const other = new Database(join(dir, "journal.db"));
  other.run("BEGIN IMMEDIATE");
  return {
    [Symbol.dispose]: () => {
      other.run("ROLLBACK");
      other.close();
    },
  };
}

function journalled(): string | undefined {
  return journal.rows()[0]?.state;
}

const NAMES = Object.keys(STATES);

describe("each state may be followed by those of the table, and by no other", () => {
  test.each(NAMES)("%s", (name) => {
    const from = STATES[name] ?? FRESH;
    const reached = Object.values(STATES).flatMap((to) => {
      try {
        states.move(capsuleIn(from), { from, to });
        return [to.status];
      } catch {
        return [];
      }
    });

    expect([...new Set(reached)].sort()).toEqual([...LEGAL[from.status]].sort());
  });
});

describe("the next agent finds what this one wrote", () => {
  const unwritten = ["snapshotting", "pausing"];
  test.each(NAMES.filter((name) => name !== "doomed" && !unwritten.includes(name)))(
    "%s",
    (name) => {
      const to = STATES[name] ?? FRESH;
      const { envdVersion } = capsuleIn(to).progress;
      // Any state that it can be reached from writes the same.
      const from = Object.values(STATES).find(({ status }) => LEGAL[status].includes(to.status));
      if (from) states.move(capsuleIn(from), { from, to });

      const [row] = journal.rows();
      if (row === undefined) throw new Error("no row");
      const found = stateOf(row);

      const { operation: _, ...rest } = { operation: null, ...to };
      expect(found).toMatchObject(rest);
      expect(operationOf(found)?.id).toBe(operationOf(to)?.id);
      expect(row.envdVersion).toBe(to.status === "starting" ? "" : envdVersion);
    },
  );

  test("which pauses and resumes have succeeded, the last ones", () => {
    const ids = Array.from({ length: ENDED_OPERATIONS_KEPT }, (_, i) => `resume ${i}`);
    const pause = newPause("requested");
    const pausing = { status: "pausing", operation, before: FRESH, pause } as const;
    const capsule = newCapsule({
      ...capsuleIn(FRESH),
      envdVersion: "",
      slot: null,
      endedOperations: ids,
    });
    const failing = states.move(capsule, { from: FRESH, to: pausing });
    const again = states.move(capsule, { from: failing, to: { ...FRESH } });
    const failed = capsule.endedOperations;
    const from = states.move(capsule, { from: again, to: { ...pausing } });

    states.concede(capsule, { from, to: PAUSED });

    expect(failed).toEqual(ids);
    expect(journal.rows()[0]?.endedOperations).toEqual([...ids.slice(1), "operation"]);
  });

  // Wherever it is on that way, it is to run on.
  test.each(unwritten)("nothing of the way to %s, and of the way back", (name) => {
    const to = STATES[name] ?? FRESH;
    const capsule = capsuleIn(FRESH);
    {
      using _held = holdJournal();
      states.move(capsule, { from: FRESH, to });
      states.concede(capsule, { from: to, to: FRESH });
    }

    expect([capsule.state, journalled(), log]).toEqual([FRESH, "starting", []]);
  });

  test.each(unwritten)("%s, of one that was behind already", (name) => {
    const to = STATES[name] ?? FRESH;
    const from: CapsuleState = { status: "starting", operation };
    const capsule = capsuleIn(from);
    {
      using _held = holdJournal();
      states.concede(capsule, { from, to: FRESH });
    }
    states.move(capsule, { from: FRESH, to });
    states.catchUp();

    expect(journalled()).toBe(to.status);
  });

  test("what may not come back is removed by it", () => {
    const from: CapsuleState = { status: "stopping", operation };
    states.move(capsuleIn(from), { from, to: DOOMED });

    expect(journalled()).toBe("stopping");
  });
});

test("a resume changes what the capsule is in one write", () => {
  const from: Resuming = { status: "resuming", operation, before: PAUSED };
  const capsule = capsuleIn(from);
  const spec = { ...SPEC, timeoutSec: 9 };

  states.move(capsule, { from, to: RUNNING, spec });

  expect(capsule.spec.timeoutSec).toBe(9);
  expect(journal.rows()).toMatchObject([{ state: "running", spec, resumedFrom: "disk" }]);
});

test("a resume that a destroy came before moves the capsule no more", async () => {
  const resuming: Resuming = { status: "resuming", operation: new Operation("r"), before: PAUSED };
  const capsule = capsuleIn(resuming);
  const stopping: CapsuleState = { status: "stopping", operation: new Operation("") };
  states.concede(capsule, { from: resuming, to: stopping });

  for (const to of [RUNNING, PAUSED]) {
    expect(() => states.move(capsule, { from: resuming, to })).toThrow("it is stopping");
    expect(() => states.concede(capsule, { from: resuming, to })).toThrow("it is stopping");
  }
  expect([capsule.state, journalled()]).toEqual([stopping, "stopping"]);
});

test("the undoing of one pause does not end the next", () => {
  const first = {
    status: "pausing",
    operation,
    before: FRESH,
    pause: newPause("requested"),
  } as const;
  const capsule = capsuleIn(first);
  states.concede(capsule, { from: first, to: FRESH });
  const second = { ...first, operation: new Operation("second") };
  states.move(capsule, { from: FRESH, to: second });

  expect(() => states.concede(capsule, { from: first, to: FRESH })).toThrow("unreachable");
  expect(capsule.state).toBe(second);
});

test("a move that cannot be written down is not made", () => {
  const capsule = capsuleIn(FRESH);
  {
    using _held = holdJournal();
    const to = { status: "stopping", operation } as const;
    expect(() => states.move(capsule, { from: FRESH, to })).toThrow("cannot write its journal");
  }

  expect([capsule.state, journalled()]).toEqual([FRESH, "starting"]);
});

test("what has happened is so although it cannot be written down, and is written down later", () => {
  const capsule = capsuleIn(FRESH);
  states.concede(capsule, { from: FRESH, to: FAILED });
  const resuming: Resuming = { status: "resuming", operation, before: FAILED };
  {
    using _held = holdJournal();
    states.concede(capsule, { from: FAILED, to: resuming });
    expect(() => states.catchUp()).toThrow("cannot write its journal");
  }
  expect([capsule.state, journalled()]).toEqual([resuming, "error"]);
  expect(log.join()).toContain("capsule.unjournalled");

  states.catchUp();

  expect(journalled()).toBe("resuming");
  // It is not written again and again.
  using _held = holdJournal();
  states.catchUp();
});

test("what is gone meanwhile is not written down again", () => {
  const capsule = capsuleIn(FRESH);
  {
    using _held = holdJournal();
    states.concede(capsule, { from: FRESH, to: { status: "stopping", operation } });
  }
  journal.forget(SPEC.id);
  states.forget(capsule);

  states.catchUp();

  expect(journal.rows()).toEqual([]);
});

test("waiting ends when nothing is under way, and when the capsule is gone in the middle of it", async () => {
  const going = new Operation("");
  const capsule = capsuleIn({ status: "starting", operation: going });
  const failed = going.run(() => Promise.reject(new Error("no guest")));

  expect(await failed.catch((error: Error) => error.message)).toBe("no guest");
  await untilSettled(capsule);

  const pausing = { status: "pausing", operation: new Operation(""), before: FRESH } as const;
  const other = capsuleIn({ ...pausing, pause: newPause("requested") });
  const settled = untilSettled(other);
  await pausing.operation.run(async () => {
    states.concede(other, { from: other.state, to: FRESH });
  });
  await settled;
  expect(other.state).toBe(FRESH);
});

test("waiting goes on for what begins as the first ends", async () => {
  const pausing = { status: "pausing", operation: new Operation(""), before: FRESH } as const;
  const stopping = { status: "stopping", operation: new Operation("") } as const;
  const capsule = capsuleIn({ ...pausing, pause: newPause("requested") });
  const ended: string[] = [];
  const settled = untilSettled(capsule).then(() => ended.push("the wait"));
  const destroyed = Promise.withResolvers<void>();

  await pausing.operation.run(async () => {
    states.concede(capsule, { from: capsule.state, to: stopping });
  });
  const destroy = stopping.operation.run(() => destroyed.promise);
  await Bun.sleep(5);
  ended.push("the destroy");
  destroyed.resolve();
  await Promise.all([destroy, settled]);

  expect(ended).toEqual(["the destroy", "the wait"]);
});

test("of several who wait for the same each begins when the one before has ended", async () => {
  const pausing = { status: "pausing", operation: new Operation(""), before: FRESH } as const;
  const capsule = capsuleIn({ ...pausing, pause: newPause("requested") });
  const found: CapsuleStatus[] = [];
  const begin = async (state: CapsuleState) => {
    found.push(state.status);
    if (state.status !== "running") return;
    const to = { status: "snapshotting", operation: new Operation(""), before: state } as const;
    states.concede(capsule, { from: state, to });
    await to.operation.run(async () => {
      await Bun.sleep(1);
      states.concede(capsule, { from: to, to: state });
    });
  };

  const all = [1, 2, 3].map(() => whenSettled(capsule, begin));
  await pausing.operation.run(async () => {
    states.concede(capsule, { from: capsule.state, to: FRESH });
  });
  await Promise.all(all);

  expect(found).toEqual(["running", "running", "running"]);
});
