// SQL of the control plane's own metrics.

import { sql } from "drizzle-orm";
import { APPLICATION_NAME, type Queryable } from "../db/client.ts";
import { capsules } from "../db/tables.ts";

/**
 * How many capsules are in each state, without those that ended, of which there may be millions: the
 * condition is that of an index, literally.
 */
export async function countCapsules(q: Queryable): Promise<Record<string, number>> {
  const rows = await q
    .select({ status: capsules.status, count: sql<number>`count(*)::int` })
    .from(capsules)
    .where(sql`status not in ('stopped', 'error')`)
    .groupBy(capsules.status);
  return Object.fromEntries(rows.map(({ status, count }) => [status, count]));
}

/** Connections of all control planes to this database, by what they do. */
export async function countConnections(q: Queryable): Promise<Record<string, number>> {
  const rows = await q.execute<{ state: string; count: number }>(sql`
    select coalesce(state, 'unknown') as state, count(*)::int as count from pg_stat_activity
    where datname = current_database() and application_name = ${APPLICATION_NAME}
    group by 1`);
  return Object.fromEntries(rows.map(({ state, count }) => [state, count]));
}
