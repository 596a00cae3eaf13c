import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CapsuleSpec } from "./capsule-spec.ts";
import { Journal } from "./journal.ts";
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
    journal.beginStep(SPEC.id, "network");
    journal.setSlot(SPEC.id, 7);
    journal.setProcess(SPEC.id, { pid: 1, startTime: "2", keeperPid: 3, keeperStartTime: "4" });
    journal.markRunning(SPEC, "0.6.13");
    journal.saveActivity(new Map([[SPEC.id, LATER]]));
  }
  using journal = new Journal(path);

  expect(journal.rows()).toEqual([
    {
      spec: SPEC,
      state: "running",
      step: "running",
      slot: 7,
      envdVersion: "0.6.13",
      reason: "",
      createdAt: NOW,
      lastActiveAt: LATER,
      pause: null,
    },
  ]);
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

test("a pause is kept with everything that a resume needs", () => {
  using journal = new Journal(path);
  const pause = { ...newPause("ttl_expired", "second"), generation: 3, durableAtMs: 5 };
  journal.claim(SPEC, NOW);
  journal.setSlot(SPEC.id, 7);
  journal.markPause(SPEC.id, "paused", pause);
  journal.clearHost(SPEC.id);

  expect(journal.rows()).toMatchObject([{ state: "paused", slot: null, pause }]);
  journal.markRunning({ ...SPEC, timeoutSec: 9 }, "0.6.13");
  const running = { state: "running", pause: null, spec: { timeoutSec: 9 } };
  expect(journal.rows()).toMatchObject([running]);
});

test("a journal of version 1 keeps its capsules", async () => {
  const { Database } = await import("bun:sqlite");
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
  journal.markPause(SPEC.id, "pausing", newPause("requested", "op"));

  expect(journal.rows()).toMatchObject([{ spec: SPEC, state: "pausing", slot: 7 }]);
});

test("a journal of a later version is refused", async () => {
  new Journal(path)[Symbol.dispose]();
  const { Database } = await import("bun:sqlite");
  const db = new Database(path);
  db.run("PRAGMA user_version = 99");
  db.close();

  expect(() => new Journal(path)).toThrow("is of version 99");
});
