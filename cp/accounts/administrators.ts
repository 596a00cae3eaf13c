// The platform's administrators, of whom there is always one once there was one: who takes that away from somebody
// holds the lock.
//
// The first one is whom the operator named, as soon as that account is active, or else whoever activates the first
// account. That is decided under a lock, so that of however many at once, on however many control planes, each sees
// those before it.

import { and, eq, exists, ne, not, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import { accountEntry, recordAudit } from "../audit/record.ts";
import type { Queryable, Tx } from "../db/client.ts";
import { users } from "../db/tables.ts";

/** Any constant: it names the lock under which administrators cease to be some. */
const ADMINISTRATORS_LOCK = 7_221_506;
/** Another one: under which the first administrator is told apart. */
const FIRST_ADMINISTRATOR_LOCK = 7_221_503;

const IS_ADMINISTRATOR = and(eq(users.isAdmin, true), eq(users.status, "active"));

type UserRow = typeof users.$inferSelect;

/** Until the transaction ends nobody else makes an administrator cease to be one. */
export async function lockAdministrators(q: Queryable): Promise<void> {
  await q.execute(sql`select pg_advisory_xact_lock(${ADMINISTRATORS_LOCK})`);
}

/** Whether anybody else who can sign in administers the platform. */
export async function hasOtherAdministrator(q: Queryable, id: Id<"user">): Promise<boolean> {
  const isOther = and(IS_ADMINISTRATOR, ne(users.id, id));
  const rows = await q.select({ id: users.id }).from(users).where(isOther).limit(1);
  return rows.length > 0;
}

/**
 * Makes the active account the administrator if it is to be the first one; `named` is the address that the operator
 * said. Returns it as it is then.
 */
export async function appointIfFirst(
  tx: Tx,
  { user, named }: { user: UserRow; named: string | null },
): Promise<UserRow> {
  if (named !== null && user.email !== named) return user;
  await tx.execute(sql`select pg_advisory_xact_lock(${FIRST_ADMINISTRATOR_LOCK})`);
  const wasActive = and(ne(users.status, "inactive"), ne(users.id, user.id));
  const isInTheWay = named === null ? wasActive : IS_ADMINISTRATOR;
  const inTheWay = tx.select({ one: sql`1` }).from(users).where(isInTheWay);
  const [row] = await tx
    .update(users)
    .set({ isAdmin: true, updatedAt: sql`now()` })
    .where(and(eq(users.id, user.id), not(exists(inTheWay))))
    .returning();
  if (row === undefined) return user;
  const actor = { type: "system", id: "", name: "" } as const;
  const entry = { ...accountEntry(row, "grant_admin"), actor, status: "warning" } as const;
  await recordAudit(tx, { ...entry, metadata: { email: row.email } });
  return row;
}
