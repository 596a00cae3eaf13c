// The platform's administrators, of whom there is always one: who takes that away from somebody holds the lock.

import { and, eq, ne, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { users } from "../db/tables.ts";

/** Any constant: it names the lock under which administrators cease to be some. */
const ADMINISTRATORS_LOCK = 7_221_506;

/** Until the transaction ends nobody else makes an administrator cease to be one. */
export async function lockAdministrators(q: Queryable): Promise<void> {
  await q.execute(sql`select pg_advisory_xact_lock(${ADMINISTRATORS_LOCK})`);
}

/** Whether anybody else who can sign in administers the platform. */
export async function hasOtherAdministrator(q: Queryable, id: Id<"user">): Promise<boolean> {
  const isOther = and(eq(users.isAdmin, true), eq(users.status, "active"), ne(users.id, id));
  const rows = await q.select({ id: users.id }).from(users).where(isOther).limit(1);
  return rows.length > 0;
}
