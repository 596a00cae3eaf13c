// SQL of accounts.

import { and, eq, lte, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { users } from "../db/tables.ts";
import { secondsFromNow } from "../db/time.ts";

export type UserRow = typeof users.$inferSelect;

export async function findUserByEmail(q: Queryable, email: string): Promise<UserRow | undefined> {
  const [row] = await q.select().from(users).where(eq(users.email, email));
  return row;
}

export async function findUser(q: Queryable, id: Id<"user">): Promise<UserRow | undefined> {
  const [row] = await q.select().from(users).where(eq(users.id, id));
  return row;
}

/** The same; what is done to the row waits until the transaction ends. */
export async function findUserLocked(q: Queryable, id: Id<"user">): Promise<UserRow | undefined> {
  const [row] = await q.select().from(users).where(eq(users.id, id)).for("update");
  return row;
}

/** False when the address has an account already, also one made a moment ago. */
export async function insertInactiveUser(
  q: Queryable,
  user: { id: Id<"user">; email: string; name: string; passwordHash: string | null },
): Promise<boolean> {
  const rows = await q
    .insert(users)
    .values({ ...user, status: "inactive" })
    .onConflictDoNothing({ target: users.email })
    .returning({ id: users.id });
  return rows.length === 1;
}

/** Removes the account with the address if it was made that long ago and never activated. */
export async function deleteAbandonedUser(
  q: Queryable,
  { email, ageSec }: { email: string; ageSec: number },
): Promise<void> {
  const isOld = lte(users.createdAt, secondsFromNow(-ageSec));
  await q.delete(users).where(and(eq(users.email, email), eq(users.status, "inactive"), isOld));
}

/** Moves the account from inactive to active; undefined when it isn't inactive. */
export async function activateUser(q: Queryable, id: Id<"user">): Promise<UserRow | undefined> {
  const [row] = await q
    .update(users)
    .set({ status: "active", updatedAt: sql`now()` })
    .where(and(eq(users.id, id), eq(users.status, "inactive")))
    .returning();
  return row;
}

/** The account has none until somebody adds or resets it; nothing is done to one that is active by now. */
export async function voidInactivePassword(q: Queryable, id: Id<"user">): Promise<void> {
  const isInactive = and(eq(users.id, id), eq(users.status, "inactive"));
  await q.update(users).set({ passwordHash: null }).where(isInactive);
}

/** False when the password was another one by then. */
export async function updatePassword(
  q: Queryable,
  { id, from, to }: { id: Id<"user">; from: string | null; to: string },
): Promise<boolean> {
  const isSame = sql`${users.passwordHash} is not distinct from ${from}`;
  const rows = await q
    .update(users)
    .set({ passwordHash: to, updatedAt: sql`now()` })
    .where(and(eq(users.id, id), eq(users.status, "active"), isSame))
    .returning({ id: users.id });
  return rows.length === 1;
}

export async function updateName(
  q: Queryable,
  { id, name }: { id: Id<"user">; name: string },
): Promise<void> {
  await q.update(users).set({ name, updatedAt: sql`now()` }).where(eq(users.id, id));
}
