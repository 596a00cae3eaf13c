// A condition of prepared statements: a column's value is one of many, which come as one parameter.

import { type SQL, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";

/**
 * Fits the placeholder of that name, whose value `arrayOf` makes. The array comes by way of a subquery, where
 * PostgreSQL can't count it: a plan for each count would look cheaper than one for all, and be made for each
 * execution, which costs more than the look-up.
 */
export function isAnyOf(column: PgColumn, placeholder: string, type: "text" | "uuid"): SQL {
  return sql`${column} = any((select ${sql.placeholder(placeholder)})::${sql.raw(type)}[])`;
}

/** Of values without any character that means something in an array, such as ids. Throws on others. */
export function arrayOf(values: readonly string[]): string {
  for (const value of values) {
    if (!/^[\w-]+$/.test(value)) throw new Error("unreachable: it would need quotes in an array");
  }
  return `{${values.join(",")}}`;
}
