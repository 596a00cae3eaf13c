// SQL of sessions.

import { and, desc, eq, inArray, not, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import { isSessionAlive } from "../auth/queries.ts";
import type { Queryable } from "../db/client.ts";
import { sessions } from "../db/tables.ts";
import { secondsFromNow } from "../db/time.ts";
import type { SessionRow } from "./session.ts";

export async function insertSession(
  q: Queryable,
  { lifeSec, ...session }: Omit<typeof sessions.$inferInsert, "expiresAt"> & { lifeSec: number },
): Promise<void> {
  await q.insert(sessions).values({ ...session, expiresAt: secondsFromNow(lifeSec) });
}

/** Ends all sessions of a user but those that were used last. */
export async function deleteOldestSessions(
  q: Queryable,
  { userId, kept }: { userId: Id<"user">; kept: number },
): Promise<void> {
  const oldest = q
    .select({ id: sessions.id })
    .from(sessions)
    .where(eq(sessions.userId, userId))
    .orderBy(desc(sessions.lastSeenAt), desc(sessions.createdAt))
    .offset(kept);
  await q.delete(sessions).where(inArray(sessions.id, oldest));
}

/** The living sessions of a user, the one used last first. */
export async function listSessions(q: Queryable, userId: Id<"user">): Promise<SessionRow[]> {
  return await q
    .select()
    .from(sessions)
    .where(and(eq(sessions.userId, userId), isSessionAlive))
    .orderBy(desc(sessions.lastSeenAt), desc(sessions.createdAt), desc(sessions.id));
}

/** False when the user has no such session that lives. */
export async function deleteSession(
  q: Queryable,
  session: { id: string; userId: Id<"user"> },
): Promise<boolean> {
  const isOfUser = and(eq(sessions.id, session.id), eq(sessions.userId, session.userId));
  const rows = await q
    .delete(sessions)
    .where(and(isOfUser, isSessionAlive))
    .returning({ id: sessions.id });
  return rows.length === 1;
}

export async function deleteSessionsOf(q: Queryable, userId: Id<"user">): Promise<void> {
  await q.delete(sessions).where(eq(sessions.userId, userId));
}

/** Up to `limit` of those that are over; how many it were. */
export async function deleteEndedSessions(q: Queryable, limit: number): Promise<number> {
  const ended = q
    .select({ id: sessions.id })
    .from(sessions)
    .where(not(sql`(${isSessionAlive})`))
    .limit(limit)
    .for("update", { skipLocked: true });
  const rows = await q
    .delete(sessions)
    .where(inArray(sessions.id, ended))
    .returning({ id: sessions.id });
  return rows.length;
}
