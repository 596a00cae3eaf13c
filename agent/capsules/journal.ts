// The agent's memory across crashes: a row per capsule, written and synced before each step that
// changes the world. After a kill at any point the rows name everything that can be left over.

import { Database } from "bun:sqlite";
import { closeSync, openSync } from "node:fs";
import type { AgentErrorCode } from "../errors.ts";
import { type CapsuleSpec, parseSpec } from "./capsule-spec.ts";

const SCHEMA_VERSION = 1;
const SCHEMA = `
  CREATE TABLE capsules (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('creating', 'running', 'destroying', 'failed')),
    step TEXT NOT NULL,
    spec TEXT NOT NULL,
    slot INTEGER,
    process TEXT,
    envd_version TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    last_active_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE outcomes (
    capsule_id TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    finished_at INTEGER NOT NULL,
    PRIMARY KEY (capsule_id, operation_id)
  ) STRICT;
  PRAGMA user_version = ${SCHEMA_VERSION};
`;
/** In place of an operation id: every create of that capsule. */
const ANY_OPERATION = "";

/** creating and destroying are half done; failed is a capsule whose VMM ended by itself. */
export type JournalState = "creating" | "running" | "destroying" | "failed";

/** Pids with their start times, for whoever reads the journal after a crash. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
  readonly keeperPid: number;
  readonly keeperStartTime: string;
}

export interface CapsuleRow {
  readonly spec: CapsuleSpec;
  readonly state: JournalState;
  /** The step of the create that was begun last. */
  readonly step: string;
  readonly slot: number | null;
  readonly envdVersion: string;
  readonly reason: string;
  readonly createdAt: Date;
  readonly lastActiveAt: Date;
}

/** How a create ended that left no capsule. */
export interface Outcome {
  readonly code: AgentErrorCode;
  readonly message: string;
}

interface StoredRow {
  spec: string;
  state: JournalState;
  step: string;
  slot: number | null;
  envd_version: string;
  reason: string;
  created_at: number;
  last_active_at: number;
}

export class Journal implements Disposable {
  readonly #db: Database;

  /** Opens or makes the file. Throws if it is damaged or of a later version. */
  constructor(path: string) {
    // It holds the capsules' tokens; SQLite gives its other files the mode of this one.
    closeSync(openSync(path, "a", 0o600));
    this.#db = new Database(path, { strict: true });
    this.#db.run("PRAGMA journal_mode = WAL");
    this.#db.run("PRAGMA synchronous = FULL");
    const version = this.#db.query<{ user_version: number }, []>("PRAGMA user_version").get();
    if (version?.user_version === 0) this.#db.transaction(() => this.#db.run(SCHEMA))();
    else if (version?.user_version !== SCHEMA_VERSION) {
      throw new Error(
        `Journal ${path} is of version ${version?.user_version}, not ${SCHEMA_VERSION}`,
      );
    }
  }

  rows(): CapsuleRow[] {
    return this.#db
      .query<StoredRow, []>("SELECT * FROM capsules ORDER BY created_at")
      .all()
      .map(toRow);
  }

  /** A create begins: from here on the capsule is either finished or undone. */
  claim(spec: CapsuleSpec, now: Date): void {
    this.#db
      .query(
        `INSERT INTO capsules (id, state, step, spec, created_at, last_active_at)
         VALUES ($id, 'creating', 'claim', $spec, $now, $now)`,
      )
      .run({ id: spec.id, spec: JSON.stringify(spec), now: now.getTime() });
  }

  /** The step is about to change the world. */
  beginStep(id: string, step: string): void {
    this.#db.query("UPDATE capsules SET step = $step WHERE id = $id").run({ id, step });
  }

  setSlot(id: string, slot: number): void {
    this.#db.query("UPDATE capsules SET slot = $slot WHERE id = $id").run({ id, slot });
  }

  setProcess(id: string, process: ProcessIdentity): void {
    const text = JSON.stringify(process);
    this.#db.query("UPDATE capsules SET process = $text WHERE id = $id").run({ id, text });
  }

  markRunning(id: string, envdVersion: string): void {
    this.#db
      .query("UPDATE capsules SET state = 'running', envd_version = $envdVersion WHERE id = $id")
      .run({ id, envdVersion });
  }

  markDestroying(id: string): void {
    this.#db.query("UPDATE capsules SET state = 'destroying' WHERE id = $id").run({ id });
  }

  markFailed(id: string, reason: string): void {
    this.#db
      .query("UPDATE capsules SET state = 'failed', reason = $reason WHERE id = $id")
      .run({ id, reason });
  }

  /** Nothing of the capsule is left; its create had this outcome. */
  finishCreate(spec: CapsuleSpec, outcome: Outcome, now: Date): void {
    this.#db.transaction(() => {
      this.#db.query("DELETE FROM capsules WHERE id = $id").run({ id: spec.id });
      this.#remember(spec.id, spec.operationId, outcome, now);
    })();
  }

  /** Nothing of the capsule is left, and no create of that id may ever begin again. */
  finishDestroy(id: string, now: Date): void {
    const outcome: Outcome = { code: "aborted", message: `Capsule "${id}" was destroyed` };
    this.#db.transaction(() => {
      this.#db.query("DELETE FROM capsules WHERE id = $id").run({ id });
      this.#remember(id, ANY_OPERATION, outcome, now);
    })();
  }

  /** How that create ended, if it has and left nothing; null otherwise. */
  outcome(spec: CapsuleSpec): Outcome | null {
    return this.#db
      .query<Outcome, { id: string; operationId: string; any: string }>(
        `SELECT code, message FROM outcomes
         WHERE capsule_id = $id AND operation_id IN ($operationId, $any)`,
      )
      .get({ id: spec.id, operationId: spec.operationId, any: ANY_OPERATION });
  }

  forgetOutcomes(before: Date): void {
    this.#db.query("DELETE FROM outcomes WHERE finished_at < $at").run({ at: before.getTime() });
  }

  saveActivity(times: ReadonlyMap<string, Date>): void {
    const update = this.#db.query("UPDATE capsules SET last_active_at = $at WHERE id = $id");
    this.#db.transaction(() => {
      for (const [id, at] of times) update.run({ id, at: at.getTime() });
    })();
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }

  #remember(id: string, operationId: string, outcome: Outcome, now: Date): void {
    this.#db
      .query(
        `INSERT OR REPLACE INTO outcomes (capsule_id, operation_id, code, message, finished_at)
         VALUES ($id, $operationId, $code, $message, $now)`,
      )
      .run({
        id,
        operationId,
        // An Error's message is not among the properties that a spread copies.
        code: outcome.code,
        message: outcome.message,
        now: now.getTime(),
      });
  }
}

function toRow(row: StoredRow): CapsuleRow {
  return {
    spec: parseSpec(row.spec),
    state: row.state,
    step: row.step,
    slot: row.slot,
    envdVersion: row.envd_version,
    reason: row.reason,
    createdAt: new Date(row.created_at),
    lastActiveAt: new Date(row.last_active_at),
  };
}
