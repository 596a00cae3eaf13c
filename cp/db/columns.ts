// Column shapes that several tables share.

import { type SQL, sql } from "drizzle-orm";
import { type AnyPgColumn, timestamp, uuid } from "drizzle-orm/pg-core";
import type { Id, IdKind } from "../../proto/ids.ts";

/** A point in time with its zone, read as a Date. */
export function instant(name: string) {
  return timestamp(name, { withTimezone: true, mode: "date" });
}

/** `created_at`, set by the database. */
export function createdAt() {
  return instant("created_at").notNull().defaultNow();
}

/** `updated_at`, set by the database on insert; every update names it. */
export function updatedAt() {
  return instant("updated_at").notNull().defaultNow();
}

/** A UUID column that holds ids of one kind. */
export function idColumn<K extends IdKind>(_kind: K, name: string) {
  return uuid(name).$type<Id<K>>();
}

/** The condition of a CHECK: the column holds one of these texts, which are our own names. */
export function isOneOf(column: AnyPgColumn, values: readonly string[]): SQL {
  return sql`${column} in (${sql.raw(values.map((value) => `'${value}'`).join(", "))})`;
}
