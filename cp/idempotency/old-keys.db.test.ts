// Keys that were used before the outcome was kept instead of the answer.

import { expect, test } from "bun:test";
import type { Sql } from "postgres";
import { encodeId, newId } from "../../proto/ids.ts";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { MIGRATIONS } from "../db/migrations.ts";

const FIRST = "0007_outcomes-of-keys";

async function apply(sql: Sql, isWanted: (name: string) => boolean): Promise<void> {
  for (const { sql: text } of MIGRATIONS.filter(({ name }) => isWanted(name))) {
    for (const statement of text.split("--> statement-breakpoint")) await sql.unsafe(statement);
  }
}

test("are good for their day: each stands for what it began and how that ended", async () => {
  await using database = await cloneDatabase({ migrated: false });
  const { sql } = database;
  await apply(sql, (name) => name < FIRST);
  const teamId = newId("team");
  const id = newId("capsule");
  const [fork, template] = [newId("capsule"), crypto.randomUUID()];
  await sql`insert into teams (id, name, slug) values (${teamId}, 'Team', 'team')`;
  await sql`insert into templates (id, team_id, name, vcpus, memory_mb, default_user)
    values (${template}, ${teamId}, 'warm', 1, 512, 'root')`;
  const answers: Record<string, [status: number | null, response: unknown]> = {
    "create under way": [null, null],
    created: [201, { id: encodeId("capsule", id), status: "running" }],
    failed: [502, { error: { code: "agent_error", message: "no" } }],
    "forks under way": [null, [fork]],
    forked: [201, [{ capsule: { id: encodeId("capsule", fork) } }]],
    "snapshot under way": [null, template],
    "snapshot made": [201, { name: "warm", size_bytes: 1 }],
    "snapshot gone": [201, { name: "cold", size_bytes: 1 }],
  };
  for (const [key, [status, response]] of Object.entries(answers)) {
    await sql`insert into idempotency_keys (team_id, key, request_hash, capsule_id, status, response)
      values (${teamId}, ${key}, '', ${id}, ${status}, ${JSON.stringify(response)}::text::jsonb)`;
  }

  await apply(sql, (name) => name >= FIRST);

  const rows = await sql`select key, subject_kind, subject_ids, code from idempotency_keys`;
  const found = rows.map((row) => [row.key, [row.subject_kind, row.subject_ids, row.code]]);
  expect(Object.fromEntries(found)).toEqual({
    "create under way": ["capsule", [id], null],
    created: ["capsule", [id], ""],
    failed: ["capsule", [id], "agent_error"],
    "forks under way": ["capsule", [fork], null],
    forked: ["capsule", [id], "conflict"],
    "snapshot under way": ["template", [template], null],
    "snapshot made": ["template", [template], ""],
    "snapshot gone": ["capsule", [id], "conflict"],
  });
});
