// Transactions that end in the middle and are undone, as those of a process are that is killed.

import type { Sql } from "postgres";

export interface Step {
  readonly table: string;
  readonly does: "insert" | "update" | "delete";
  /** Once the transaction has done all, and is about to be committed. */
  readonly isAtCommit?: boolean;
}

/** What a test is called that is about it. */
export function named({ table, does, isAtCommit }: Step): string {
  return isAtCommit ? `the commit, with ${table}` : `the ${does} of ${table}`;
}

/** Ends the transaction of whoever does that, before it is done, until this is disposed of. */
export async function dieAt(
  sql: Sql,
  { table, does, isAtCommit = false }: Step,
): Promise<AsyncDisposable> {
  await sql.unsafe(`create function die() returns trigger language plpgsql as
    $$ begin raise exception 'died'; end $$`);
  const when = isAtCommit
    ? `constraint trigger dying after ${does} on ${table} deferrable initially deferred`
    : `trigger dying before ${does} on ${table}`;
  await sql.unsafe(`create ${when} for each row execute function die()`);
  return {
    [Symbol.asyncDispose]: async () => {
      await sql.unsafe("drop function die cascade");
    },
  };
}
