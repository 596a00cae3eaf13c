// Times by the database's clock.

import { sql } from "drizzle-orm";

/** The given seconds from now, by the database's clock. */
export function secondsFromNow(seconds: number) {
  return sql<Date>`now() + make_interval(secs => ${seconds})`;
}
