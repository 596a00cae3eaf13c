// The journal's tables, and how those of an older agent become ours.

import type { Database } from "bun:sqlite";

const SCHEMA_VERSION = 4;
// Of version 3, which version 2 is made into first. States are checked where they are written: a CHECK could not
// be changed without a new table.
const CAPSULES = `
  CREATE TABLE capsules (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    resumed_from TEXT NOT NULL,
    pause TEXT,
    spec TEXT NOT NULL,
    slot INTEGER,
    envd_version TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_active_at INTEGER NOT NULL
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
/** Version 1 knew no pause, and its states were those of version 2. */
const FROM_1 = `
  ALTER TABLE capsules ADD COLUMN pause TEXT;
`;
/**
 * Version 2 had names of its own for some states, a snapshot as a step of a running capsule, and for the
 * resume of one whose VMM had ended a pause without generation.
 */
const FROM_2 = `
  ALTER TABLE capsules RENAME TO capsules_2;
  ${CAPSULES}
  INSERT INTO capsules
    SELECT id,
      CASE
        WHEN state = 'creating' THEN 'starting'
        WHEN state = 'destroying' THEN 'stopping'
        WHEN state = 'failed' THEN 'error'
        WHEN state = 'running' AND step = 'capture' THEN 'snapshotting'
        ELSE state
      END,
      reason,
      COALESCE(pause ->> '$.operationId', spec ->> '$.operationId'),
      '',
      CASE
        WHEN pause ->> '$.generation' IS NULL AND pause ->> '$.durableAtMs' IS NOT NULL THEN NULL
        ELSE pause
      END,
      spec, slot, envd_version, created_at, last_active_at
    FROM capsules_2;
  DROP TABLE capsules_2;
`;

/** Version 3 knew no operation that had ended. */
const FROM_3 = `
  ALTER TABLE capsules ADD COLUMN ended_operations TEXT NOT NULL DEFAULT '[]';
`;

/** By the version that it changes into the next one; a new file has none of them. */
const CHANGES = new Map([
  [1, FROM_1],
  [2, FROM_2],
  [3, FROM_3],
]);

/** Brings a new or older journal to the present version. Throws if it is of a later one. */
export function prepareSchema(db: Database, path: string): void {
  const found = db.query<{ user_version: number }, []>("PRAGMA user_version").get();
  const version = found?.user_version ?? 0;
  if (version < 0 || version > SCHEMA_VERSION) {
    throw new Error(`the journal ${path} is of version ${version}, not ${SCHEMA_VERSION}`);
  }
  if (version === SCHEMA_VERSION) return;
  const changes =
    version === 0
      ? [CAPSULES, FROM_3, OUTCOMES]
      : [...CHANGES].flatMap(([from, change]) => (from >= version ? [change] : []));
  db.transaction(() => db.run(`${changes.join("")} PRAGMA user_version = ${SCHEMA_VERSION};`))();
}
