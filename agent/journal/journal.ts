// The agent's memory across crashes: a row per capsule, written and synced before each step that
// changes the world. After a kill at any point the rows name everything that can be left over.

import { Database } from "bun:sqlite";
import { closeSync, openSync } from "node:fs";
import type { AgentErrorCode } from "../errors.ts";
import { type CapsuleSpec, parseSpec } from "./capsule-spec.ts";
import { prepareSchema } from "./journal-schema.ts";
import { type PauseRecord, parsePause } from "./pause-record.ts";

/** In place of an operation id: every create of that capsule. */
const ANY_OPERATION = "";

/** Those in -ing are half done; failed is a capsule whose VMM ended by itself. */
export type JournalState =
  | "creating"
  | "running"
  | "pausing"
  | "paused"
  | "resuming"
  | "destroying"
  | "failed";

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
  /** The step of the create, resume or capture that was begun last. */
  readonly step: string;
  readonly slot: number | null;
  readonly envdVersion: string;
  readonly reason: string;
  readonly createdAt: Date;
  readonly lastActiveAt: Date;
  /** Of one that is pausing, paused or resuming; null otherwise. */
  readonly pause: PauseRecord | null;
}

/** The step of a running capsule that stands still for a generation of it to be made. */
export const CAPTURE_STEP = "capture";

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
  pause: string | null;
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
    prepareSchema(this.#db, path);
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

  /** Its create or resume succeeded, or its capture is over; it is what the spec says from now on. */
  markRunning(spec: CapsuleSpec, envdVersion: string): void {
    this.#db
      .query(
        `UPDATE capsules SET state = 'running', step = 'running', envd_version = $envdVersion,
           spec = $text, pause = NULL, reason = '' WHERE id = $id`,
      )
      .run({ id: spec.id, envdVersion, text: JSON.stringify(spec) });
  }

  /** The capsule is on its way into or out of a pause, or rests in one. */
  markPause(id: string, state: "pausing" | "paused" | "resuming", pause: PauseRecord): void {
    const text = JSON.stringify(pause);
    this.#db
      .query("UPDATE capsules SET state = $state, pause = $text WHERE id = $id")
      .run({ id, state, text });
  }

  /** It has no VMM, control group and network slot any more. */
  clearHost(id: string): void {
    this.#db.query("UPDATE capsules SET slot = NULL, process = NULL WHERE id = $id").run({ id });
  }

  markDestroying(id: string): void {
    this.#db.query("UPDATE capsules SET state = 'destroying' WHERE id = $id").run({ id });
  }

  markFailed(id: string, reason: string): void {
    this.#db
      .query("UPDATE capsules SET state = 'failed', reason = $reason WHERE id = $id")
      .run({ id, reason });
  }

  /** Nothing of it is left, and nobody ever knew of it. */
  forget(id: string): void {
    this.#db.query("DELETE FROM capsules WHERE id = $id").run({ id });
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
    pause: row.pause === null ? null : parsePause(row.pause),
  };
}
