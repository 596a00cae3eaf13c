import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CapsuleSpec } from "./capsule-spec.ts";
import { Journal, openDatabase } from "./journal.ts";
import { newPause } from "./pause-record.ts";

const NOW = new Date("2026-01-01T00:00:00Z");
const LATER = new Date("2026-01-02T00:00:00Z");
const SPEC: CapsuleSpec = {
  id: "cl-a",
  operationId: "first",
  vcpus: 2,
  memoryMib: 256,
  diskMib: 5120,
  timeoutSec: 60,
  teamId: "team",
  templateId: "template",
  templateTeamId: "owner",
  defaultUser: "root",
  defaultEnvs: { A: "1" },
  accessToken: "token",
};

const RUNNING = {
  state: "running",
  reason: "",
  operationId: "second",
  resumedFrom: "disk",
  pause: null,
  envdVersion: "0.6.13",
  endedOperations: ["first", "second"],
} as const;

let dir: string;
let path: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-journal-"));
  path = join(dir, "journal.db");
});

afterEach(async () => {
  await rm(dir, { recursive: true });
});

test("what was written is there for the next program", () => {
  {
    using journal = new Journal(path);
    journal.claim(SPEC, NOW);
    journal.setSlot(SPEC.id, 7);
    journal.writeState(SPEC, RUNNING);
    journal.saveActivity(new Map([[SPEC.id, LATER]]));
  }
  using journal = new Journal(path);

  expect(journal.rows()).toEqual([
    {
      spec: SPEC,
      state: "running",
      reason: "",
      operationId: "second",
      resumedFrom: "disk",
      slot: 7,
      envdVersion: "0.6.13",
      endedOperations: ["first", "second"],
      createdAt: NOW,
      lastActiveAt: LATER,
      pause: null,
    },
  ]);
});

// With less, SQLite hands a write to the kernel and answers: a power cut takes back what had been answered as done.
test("each write is synced before it is answered", () => {
  const FULL = 2;
  using db = openDatabase(path);

  expect(db.query("PRAGMA synchronous").get()).toEqual({ synchronous: FULL });
});

test("only root can read it, since it holds tokens", async () => {
  using journal = new Journal(path);
  journal.claim(SPEC, NOW);

  const modes = await Promise.all(
    (await readdir(dir)).map(async (name) => (await stat(join(dir, name))).mode & 0o777),
  );
  expect(new Set(modes)).toEqual(new Set([0o600]));
});

test("a second claim of a capsule is refused", () => {
  using journal = new Journal(path);
  journal.claim(SPEC, NOW);

  expect(() => journal.claim({ ...SPEC, operationId: "second" }, NOW)).toThrow("UNIQUE");
});

test("a failed create is remembered for its own operation only", () => {
  using journal = new Journal(path);
  journal.claim(SPEC, NOW);
  journal.finishCreate(SPEC, { code: "unavailable", message: "no guest" }, NOW);

  expect(journal.rows()).toEqual([]);
  expect(journal.outcome(SPEC)).toEqual({ code: "unavailable", message: "no guest" });
  expect(journal.outcome({ ...SPEC, operationId: "second" })).toBeNull();
});

test("a destroyed capsule is never created again, whatever the operation", () => {
  using journal = new Journal(path);
  journal.finishDestroy(SPEC.id, NOW);

  expect(journal.outcome({ ...SPEC, operationId: "late" })?.code).toBe("aborted");
});

test("outcomes are forgotten once they are old", () => {
  using journal = new Journal(path);
  journal.finishDestroy(SPEC.id, NOW);
  journal.forgetOutcomes(NOW);
  expect(journal.outcome(SPEC)).not.toBeNull();

  journal.forgetOutcomes(LATER);

  expect(journal.outcome(SPEC)).toBeNull();
});

test("a capsule that is destroyed again is remembered from then on", () => {
  using journal = new Journal(path);
  journal.finishDestroy(SPEC.id, NOW);
  journal.finishDestroy(SPEC.id, LATER);

  journal.forgetOutcomes(LATER);

  expect(journal.outcome(SPEC)).not.toBeNull();
});

test("a pause is kept with everything that a resume needs", () => {
  using journal = new Journal(path);
  const pause = { ...newPause("ttl_expired"), generation: 3, durableAtMs: 5 };
  journal.claim(SPEC, NOW);
  journal.setSlot(SPEC.id, 7);
  journal.writeState(SPEC, { ...RUNNING, state: "paused", resumedFrom: "", pause });
  journal.setSlot(SPEC.id, null);

  expect(journal.rows()).toMatchObject([{ state: "paused", slot: null, pause }]);
  journal.writeState({ ...SPEC, timeoutSec: 9 }, RUNNING);
  const running = { state: "running", pause: null, spec: { timeoutSec: 9 } };
  expect(journal.rows()).toMatchObject([running]);
});

test("a journal of version 1 keeps its capsules", () => {
  const old = new Database(path, { strict: true });
  old.run(`
    CREATE TABLE capsules (id TEXT PRIMARY KEY, state TEXT NOT NULL CHECK (state IN ('running')),
      step TEXT NOT NULL, spec TEXT NOT NULL, slot INTEGER, process TEXT,
      envd_version TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
      created_at INTEGER NOT NULL, last_active_at INTEGER NOT NULL) STRICT;
    CREATE TABLE outcomes (capsule_id TEXT NOT NULL, operation_id TEXT NOT NULL, code TEXT NOT NULL,
      message TEXT NOT NULL, finished_at INTEGER NOT NULL,
      PRIMARY KEY (capsule_id, operation_id)) STRICT;
    PRAGMA user_version = 1;`);
  const spec = JSON.stringify(SPEC);
  old
    .query(
      "INSERT INTO capsules VALUES ('cl-a', 'running', 'guest', $spec, 7, NULL, 'v', '', 1, 2)",
    )
    .run({ spec });
  old.close();

  using journal = new Journal(path);
  const pause = newPause("requested");
  journal.writeState(SPEC, { ...RUNNING, state: "pausing", pause });

  expect(journal.rows()).toMatchObject([{ spec: SPEC, state: "pausing", slot: 7, pause }]);
});

describe("a journal of version 2", () => {
  const paused = { reason: "requested", operationId: "op", generation: 3, diskGeneration: 3 };
  const old = {
    "no pause": null,
    durable: { ...paused, durableAtMs: 5 },
    held: { ...paused, durableAtMs: null, diskGeneration: null },
    ended: { ...paused, durableAtMs: 5, generation: null, diskGeneration: null },
  } as const;
  const now = (name: "durable" | "held") => {
    const { operationId: _, ...pause } = old[name];
    return { ...pause, isLost: false };
  };
  const operationId = "op";
  const cases: [string, string, keyof typeof old, object][] = [
    ["creating", "vmm", "no pause", { state: "starting", operationId: "first", pause: null }],
    ["running", "running", "no pause", { state: "running", pause: null }],
    ["running", "capture", "no pause", { state: "snapshotting", pause: null }],
    ["pausing", "running", "held", { state: "pausing", operationId, pause: now("held") }],
    ["paused", "running", "durable", { state: "paused", pause: now("durable") }],
    ["resuming", "network", "held", { state: "resuming", operationId, pause: now("held") }],
    ["resuming", "network", "durable", { state: "resuming", pause: now("durable") }],
    // Of one whose VMM had ended.
    ["resuming", "network", "ended", { state: "resuming", reason: "why", pause: null }],
    ["destroying", "running", "no pause", { state: "stopping" }],
    ["failed", "running", "no pause", { state: "error", reason: "why" }],
  ];

  test.each(cases)("keeps a capsule that was %s, at %s, %s", (state, step, pause, row) => {
    const db = new Database(path, { strict: true });
    db.run(`
      CREATE TABLE capsules (id TEXT PRIMARY KEY, state TEXT NOT NULL, step TEXT NOT NULL,
        spec TEXT NOT NULL, slot INTEGER, process TEXT, envd_version TEXT NOT NULL DEFAULT '',
        reason TEXT NOT NULL DEFAULT '', created_at INTEGER NOT NULL,
        last_active_at INTEGER NOT NULL, pause TEXT) STRICT;
      CREATE TABLE outcomes (capsule_id TEXT NOT NULL, operation_id TEXT NOT NULL,
        code TEXT NOT NULL, message TEXT NOT NULL, finished_at INTEGER NOT NULL,
        PRIMARY KEY (capsule_id, operation_id)) STRICT;
      PRAGMA user_version = 2;`);
    db.query(
      `INSERT INTO capsules VALUES ('cl-a', $state, $step, $spec, 7, NULL, 'v', 'why', 1, 2, $pause)`,
    ).run({
      state,
      step,
      spec: JSON.stringify(SPEC),
      pause: old[pause] && JSON.stringify(old[pause]),
    });
    db.close();

    using journal = new Journal(path);

    expect(journal.rows()).toMatchObject([{ spec: SPEC, slot: 7, envdVersion: "v", ...row }]);
  });
});

test("a journal of version 3 keeps its capsules, of which no operation has ended", () => {
  {
    using journal = new Journal(path);
    journal.claim(SPEC, NOW);
    journal.writeState(SPEC, RUNNING);
  }
  const db = new Database(path);
  db.run("ALTER TABLE capsules DROP COLUMN ended_operations; PRAGMA user_version = 3;");
  db.close();

  using journal = new Journal(path);

  expect(journal.rows()).toMatchObject([{ spec: SPEC, state: "running", endedOperations: [] }]);
});

test("a template that was deleted is known as that for as long as outcomes are kept", () => {
  const template = { teamId: "team", templateId: "template" };
  {
    using journal = new Journal(path);
    expect(journal.deletion(template)).toBeNull();
    journal.finishDelete(template, NOW);
  }
  using journal = new Journal(path);

  expect(journal.deletion(template)).toMatchObject({ code: "aborted" });
  expect(journal.deletion({ ...template, templateId: "other" })).toBeNull();
  journal.forgetOutcomes(LATER);
  expect(journal.deletion(template)).toBeNull();
});

test("a write that cannot be done says why, and nothing of it is written", () => {
  using journal = new Journal(path);
  journal.claim(SPEC, NOW);
  const other = new Database(path);
  other.run("BEGIN IMMEDIATE");

  expect(() => journal.writeState(SPEC, RUNNING)).toThrow("The host cannot write its journal");
  expect(() => journal.finishDestroy(SPEC.id, NOW)).toThrow("The host cannot write its journal");
  expect(journal.rows()).toMatchObject([{ state: "starting" }]);

  other.run("ROLLBACK");
  other.close();
  journal.writeState(SPEC, RUNNING);
  expect(journal.rows()).toMatchObject([{ state: "running" }]);
});

test("a journal of a later version is refused", () => {
  new Journal(path)[Symbol.dispose]();
  const db = new Database(path);
  db.run("PRAGMA user_version = 99");
  db.close();

  expect(() => new Journal(path)).toThrow("is of version 99");
});
