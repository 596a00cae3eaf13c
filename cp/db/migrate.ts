// Forward-only migrations: each runs once, all in one transaction, under one lock.

import type { Sql } from "postgres";
import { MIGRATIONS, type Migration } from "./migrations.ts";

/** Any constant: it names the lock that lets one migration run at a time per database. */
const MIGRATE_LOCK = 7_221_501;
const STATEMENT_BREAKPOINT = "--> statement-breakpoint";

/**
 * Applies the migrations that the database lacks and returns their names. Safe to run many times at
 * once: all but one wait, then find nothing to do. Throws when a migration fails or when the text of
 * one that was applied has changed; the database is then as it was.
 */
export async function migrate(sql: Sql): Promise<string[]> {
  return await sql.begin(async (tx) => {
    await tx`set local statement_timeout = 0`;
    await tx`select pg_advisory_xact_lock(${MIGRATE_LOCK})`;
    await tx`create table if not exists wrenn_migrations (
      name text primary key, checksum text not null, applied_at timestamptz not null default now())`;
    const rows = await tx<AppliedRow[]>`select name, checksum from wrenn_migrations`;
    const missing = missingMigrations(rows);
    for (const { name, sql: text } of missing) {
      for (const statement of text.split(STATEMENT_BREAKPOINT)) await tx.unsafe(statement);
      await tx`insert into wrenn_migrations (name, checksum) values (${name}, ${checksum(text)})`;
    }
    return missing.map((migration) => migration.name);
  });
}

/**
 * The names of the migrations that the database lacks. Migrations it has and this program does not
 * know are no fault: a newer program may already have migrated it.
 */
export async function pendingMigrations(sql: Sql): Promise<string[]> {
  const [table] = await sql<
    { applied: boolean }[]
  >`select to_regclass('wrenn_migrations') is not null as applied`;
  if (!table?.applied) return MIGRATIONS.map((migration) => migration.name);

  const rows = await sql<AppliedRow[]>`select name, checksum from wrenn_migrations`;
  return missingMigrations(rows).map((migration) => migration.name);
}

interface AppliedRow {
  name: string;
  checksum: string;
}

function missingMigrations(rows: readonly AppliedRow[]): Migration[] {
  const applied = new Map(rows.map((row) => [row.name, row.checksum]));
  for (const { name, sql } of MIGRATIONS) {
    const known = applied.get(name);
    if (known !== undefined && known !== checksum(sql)) {
      throw new Error(`migration ${name} was changed after it was applied`);
    }
  }
  return MIGRATIONS.filter((migration) => !applied.has(migration.name));
}

function checksum(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}
