// SQL of mails on their way.

import { asc, eq, inArray, lte, sql } from "drizzle-orm";
import type { Queryable } from "../db/client.ts";
import { outgoingMails } from "../db/tables.ts";
import { secondsFromNow } from "../db/time.ts";

export interface MailRow {
  readonly id: string;
  readonly sealed: string;
  /** This one included. */
  readonly attempts: number;
}

export async function insertMail(
  q: Queryable,
  { id, sealed, lifeSec }: { id: string; sealed: string; lifeSec: number },
): Promise<void> {
  await q.insert(outgoingMails).values({ id, sealed, expiresAt: secondsFromNow(lifeSec) });
}

/** Takes some that are due, the one due longest first; nobody else gets them for that time. */
export async function claimMails(
  q: Queryable,
  { limit, claimSec }: { limit: number; claimSec: number },
): Promise<MailRow[]> {
  const due = q
    .select({ id: outgoingMails.id })
    .from(outgoingMails)
    .where(lte(outgoingMails.nextAttemptAt, sql`now()`))
    .orderBy(asc(outgoingMails.nextAttemptAt))
    .limit(limit)
    .for("update", { skipLocked: true });
  const { id, sealed, attempts } = outgoingMails;
  return await q
    .update(outgoingMails)
    .set({ nextAttemptAt: secondsFromNow(claimSec), attempts: sql`${attempts} + 1` })
    .where(inArray(id, due))
    .returning({ id, sealed, attempts });
}

export async function postponeMail(
  q: Queryable,
  { id, inSec }: { id: string; inSec: number },
): Promise<void> {
  await q
    .update(outgoingMails)
    .set({ nextAttemptAt: secondsFromNow(inSec) })
    .where(eq(outgoingMails.id, id));
}

export async function deleteMail(q: Queryable, id: string): Promise<void> {
  await q.delete(outgoingMails).where(eq(outgoingMails.id, id));
}

/** Deletes those that are of no use any more, and that nobody is delivering; returns which. */
export async function deleteMailsPastTime(q: Queryable, limit: number): Promise<string[]> {
  const { id } = outgoingMails;
  const past = q
    .select({ id })
    .from(outgoingMails)
    .where(lte(outgoingMails.expiresAt, sql`now()`))
    .limit(limit)
    .for("update", { skipLocked: true });
  const rows = await q.delete(outgoingMails).where(inArray(id, past)).returning({ id });
  return rows.map((row) => row.id);
}
