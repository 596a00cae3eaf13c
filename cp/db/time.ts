// Times by the database's clock: what it wrote is compared with nobody else's, for the clocks of control
// planes may differ from it and from one another.

import { sql } from "drizzle-orm";
import type { Queryable } from "./client.ts";

/** The given seconds from now. */
export function secondsFromNow(seconds: number) {
  return sql<Date>`now() + make_interval(secs => ${seconds})`;
}

export async function databaseNow(q: Queryable): Promise<Date> {
  const [row] = await q.execute<{ now: string }>(sql`select now()::text as now`);
  if (row === undefined) throw new Error("unreachable: select without a row");
  return new Date(row.now);
}

/** How long ago an instant was that the database wrote. */
export async function msSince(q: Queryable, instant: Date): Promise<number> {
  return (await databaseNow(q)).getTime() - instant.getTime();
}
