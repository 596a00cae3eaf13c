// The agent's memory across crashes: a row per capsule, written and synced before each change of the world.
// After a kill at any point the rows name every capsule that can have something left over.
//
// Each write throws AgentError if it cannot be done (resource_exhausted on a full disk, else unavailable);
// nothing is written then.

import { Database, SQLiteError } from "bun:sqlite";
import { closeSync, openSync } from "node:fs";
import { AgentError, type AgentErrorCode } from "../errors.ts";
import { type CapsuleSpec, parseSpec } from "./capsule-spec.ts";
import { prepareSchema } from "./journal-schema.ts";
import { type PauseRecord, parsePause } from "./pause-record.ts";

/** In place of an operation id: every create of that capsule. */
const ANY_OPERATION = "";

/** What a capsule is in the middle of, or has come to. */
export type JournalState =
  | "starting"
  | "running"
  | "snapshotting"
  | "pausing"
  | "paused"
  | "resuming"
  | "stopping"
  | "error";

/** A capsule's state with all that the next agent needs to go on from it. */
export interface StateRecord {
  readonly state: JournalState;
  /** Why it is in error, or was before its resume; else empty. */
  readonly reason: string;
  /** Of what it is in the middle of, or of the resume that made it run; else empty. */
  readonly operationId: string;
  /** What that resume brought it back from; else empty. */
  readonly resumedFrom: string;
  /** Of one that is pausing or paused, or was before its resume; else null. */
  readonly pause: PauseRecord | null;
}

export interface CapsuleRow extends StateRecord {
  readonly spec: CapsuleSpec;
  /** Ids of the pauses and resumes that have succeeded, the last ones. */
  readonly endedOperations: readonly string[];
  readonly slot: number | null;
  readonly envdVersion: string;
  readonly createdAt: Date;
  readonly lastActiveAt: Date;
}

/** How a create ended that left no capsule. */
export interface Outcome {
  readonly code: AgentErrorCode;
  readonly message: string;
}

interface TemplateKey {
  readonly teamId: string;
  readonly templateId: string;
}

const DELETED: Outcome = {
  code: "aborted",
  message: "The snapshot was deleted before it was made",
};

interface StoredRow {
  state: JournalState;
  reason: string;
  operation_id: string;
  resumed_from: string;
  pause: string | null;
  spec: string;
  slot: number | null;
  envd_version: string;
  created_at: number;
  last_active_at: number;
  ended_operations: string;
}

export class Journal implements Disposable {
  readonly #db: Database;

  /** Opens or makes the file. Throws if it is damaged or of a later version. */
  constructor(path: string) {
    // It holds the capsules' tokens; SQLite gives its other files the mode of this one.
    closeSync(openSync(path, "a", 0o600));
    this.#db = openDatabase(path);
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
    this.#write(() =>
      this.#db
        .query(
          `INSERT INTO capsules (id, state, reason, operation_id, resumed_from, spec, envd_version,
             created_at, last_active_at)
           VALUES ($id, 'starting', '', $operationId, '', $spec, '', $now, $now)`,
        )
        .run({
          id: spec.id,
          operationId: spec.operationId,
          spec: JSON.stringify(spec),
          now: now.getTime(),
        }),
    );
  }

  /** The capsule is in that state from now on, and is what the spec says. */
  writeState(
    spec: CapsuleSpec,
    record: StateRecord & Pick<CapsuleRow, "envdVersion" | "endedOperations">,
  ): void {
    const { state, reason, operationId, resumedFrom, pause, envdVersion } = record;
    this.#write(() =>
      this.#db
        .query(
          `UPDATE capsules SET state = $state, reason = $reason, operation_id = $operationId,
             resumed_from = $resumedFrom, pause = $pause, spec = $spec, envd_version = $envdVersion,
             ended_operations = $ended
           WHERE id = $id`,
        )
        .run({
          ...{ id: spec.id, state, reason, operationId, resumedFrom, envdVersion },
          pause: pause === null ? null : JSON.stringify(pause),
          spec: JSON.stringify(spec),
          ended: JSON.stringify(record.endedOperations),
        }),
    );
  }

  /** The slot that it is about to use; null: it has nothing in one any more. */
  setSlot(id: string, slot: number | null): void {
    this.#write(() =>
      this.#db.query("UPDATE capsules SET slot = $slot WHERE id = $id").run({ id, slot }),
    );
  }

  /** Nothing of it is left, and nobody ever knew of it. */
  forget(id: string): void {
    this.#write(() => this.#delete(id));
  }

  /** Nothing of the capsule is left; its create had this outcome. */
  finishCreate(spec: CapsuleSpec, outcome: Outcome, now: Date): void {
    this.#write(() => {
      this.#delete(spec.id);
      this.#remember(spec.id, spec.operationId, outcome, now);
    });
  }

  /** Nothing of the capsule is left, and no create of that id may ever begin again. */
  finishDestroy(id: string, now: Date): void {
    const outcome: Outcome = { code: "aborted", message: `Capsule "${id}" was destroyed` };
    this.#write(() => {
      this.#delete(id);
      this.#remember(id, ANY_OPERATION, outcome, now);
    });
  }

  /** Nothing of the template's memory is left, and none may ever be made of that id again. */
  finishDelete(template: TemplateKey, now: Date): void {
    this.#write(() => this.#remember(keyOf(template), ANY_OPERATION, DELETED, now));
  }

  /** Why no memory may be made of that template; null: it may. Kept as outcomes are. */
  deletion(template: TemplateKey): Outcome | null {
    return this.#db
      .query<Outcome, { id: string }>("SELECT code, message FROM outcomes WHERE capsule_id = $id")
      .get({ id: keyOf(template) });
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
    this.#write(() =>
      this.#db.query("DELETE FROM outcomes WHERE finished_at < $at").run({ at: before.getTime() }),
    );
  }

  saveActivity(times: ReadonlyMap<string, Date>): void {
    const update = this.#db.query("UPDATE capsules SET last_active_at = $at WHERE id = $id");
    this.#write(() => {
      for (const [id, at] of times) update.run({ id, at: at.getTime() });
    });
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }

  /** All of it or nothing, and synced. */
  #write(work: () => void): void {
    try {
      this.#db.transaction(work)();
    } catch (error) {
      throw writeFailure(error) ?? error;
    }
  }

  #delete(id: string): void {
    this.#db.query("DELETE FROM capsules WHERE id = $id").run({ id });
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

/** No capsule's id has a slash. */
function keyOf({ teamId, templateId }: TemplateKey): string {
  return `${teamId}/${templateId}`;
}

/** Null: it was not the disk's fault. */
function writeFailure(cause: unknown): AgentError | null {
  const code = cause instanceof SQLiteError ? (cause.code ?? "") : "";
  if (code === "SQLITE_FULL") {
    const message = "The host has no space left";
    return new AgentError("resource_exhausted", message, { subject: "host", cause });
  }
  if (!/^SQLITE_(BUSY|CANTOPEN|IOERR|LOCKED|READONLY)/.test(code)) return null;
  const message = "The host cannot write its journal";
  return new AgentError("unavailable", message, { subject: "host", cause });
}

/** With its settings; the schema may be missing. Throws as the constructor does. */
export function openDatabase(path: string): Database {
  try {
    const db = new Database(path, { strict: true });
    db.run("PRAGMA journal_mode = WAL");
    db.run("PRAGMA synchronous = FULL");
    return db;
  } catch (cause) {
    const failure = writeFailure(cause);
    if (failure !== null) throw failure;
    const advice = "without it nobody knows what capsules there are; restore it from a copy";
    throw new Error(`The journal ${path} is damaged: ${advice}`, { cause });
  }
}

function toRow(row: StoredRow): CapsuleRow {
  return {
    state: row.state,
    reason: row.reason,
    operationId: row.operation_id,
    resumedFrom: row.resumed_from,
    pause: row.pause === null ? null : parsePause(row.pause),
    spec: parseSpec(row.spec),
    slot: row.slot,
    envdVersion: row.envd_version,
    endedOperations: JSON.parse(row.ended_operations),
    createdAt: new Date(row.created_at),
    lastActiveAt: new Date(row.last_active_at),
  };
}
