// The journal's tables, and how those of an older agent become ours.

import type { Database } from "bun:sqlite";

const SCHEMA_VERSION = 2;
// States are checked where they are written: a CHECK could not be changed without a new table.
const CAPSULES = `
  CREATE TABLE capsules (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    step TEXT NOT NULL,
    spec TEXT NOT NULL,
    slot INTEGER,
    process TEXT,
    envd_version TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    last_active_at INTEGER NOT NULL,
    pause TEXT
  ) STRICT;
`;
const OUTCOMES = `
  CREATE TABLE outcomes (
    capsule_id TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    finished_at INTEGER NOT NULL,
    PRIMARY KEY (capsule_id, operation_id)
  ) STRICT;
`;
/** Version 1 knew no pause. */
const FROM_1 = `
  ALTER TABLE capsules RENAME TO capsules_1;
  ${CAPSULES}
  INSERT INTO capsules
    SELECT id, state, step, spec, slot, process, envd_version, reason, created_at, last_active_at, NULL
    FROM capsules_1;
  DROP TABLE capsules_1;
`;

const CHANGES = new Map([
  [0, CAPSULES + OUTCOMES],
  [1, FROM_1],
]);

/** Brings a new or older journal to the present version. Throws if it is of a later one. */
export function prepareSchema(db: Database, path: string): void {
  const found = db.query<{ user_version: number }, []>("PRAGMA user_version").get();
  const version = found?.user_version ?? 0;
  if (version === SCHEMA_VERSION) return;
  const change = CHANGES.get(version);
  if (change === undefined) {
    throw new Error(`the journal ${path} is of version ${version}, not ${SCHEMA_VERSION}`);
  }
  db.transaction(() => db.run(`${change} PRAGMA user_version = ${SCHEMA_VERSION};`))();
}
