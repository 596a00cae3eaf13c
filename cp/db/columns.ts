// Column shapes that several tables share.

import { timestamp, uuid } from "drizzle-orm/pg-core";
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
