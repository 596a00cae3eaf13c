// SQL of invitations.

import { and, count, desc, eq, gt, inArray, lte, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { type INVITED_ROLES, teamInvitations, users, usersTeams } from "../db/tables.ts";
import { secondsFromNow } from "../db/time.ts";
import type { InvitationRow } from "./team.ts";

/** In time, and of one who may invite: that may have ended without a word about what they sent. */
const isOpen = and(
  gt(teamInvitations.expiresAt, sql`now()`),
  sql`exists (
    select from ${usersTeams} join ${users} on ${users.id} = ${usersTeams.userId}
    where ${usersTeams.userId} = ${teamInvitations.invitedBy}
      and ${usersTeams.teamId} = ${teamInvitations.teamId}
      and ${usersTeams.role} in ('owner', 'admin') and ${users.status} = 'active')`,
);

export interface NewInvitation {
  readonly id: Id<"invitation">;
  readonly teamId: Id<"team">;
  readonly email: string;
  readonly role: (typeof INVITED_ROLES)[number];
  readonly tokenHash: string;
  readonly invitedBy: Id<"user">;
  readonly lifeSec: number;
}

/** In place of the one that the team sent to that address before, which is void. */
export async function replaceInvitation(
  q: Queryable,
  { lifeSec, ...invitation }: NewInvitation,
): Promise<{ createdAt: Date; expiresAt: Date }> {
  const { teamId, email } = invitation;
  await q
    .delete(teamInvitations)
    .where(and(eq(teamInvitations.teamId, teamId), eq(teamInvitations.email, email)));
  const [row] = await q
    .insert(teamInvitations)
    .values({ ...invitation, expiresAt: secondsFromNow(lifeSec) })
    .returning({ createdAt: teamInvitations.createdAt, expiresAt: teamInvitations.expiresAt });
  if (row === undefined) throw new Error("unreachable: an insert returns its row");
  return row;
}

/** The open ones of a team, the newest first. */
export async function listInvitations(q: Queryable, teamId: Id<"team">): Promise<InvitationRow[]> {
  const { id, email, role, createdAt, expiresAt } = teamInvitations;
  return await q
    .select({ id, email, role, createdAt, expiresAt, invitedBy: users.email })
    .from(teamInvitations)
    .innerJoin(users, eq(users.id, teamInvitations.invitedBy))
    .where(and(eq(teamInvitations.teamId, teamId), isOpen))
    .orderBy(desc(createdAt), desc(id));
}

/** Of other addresses than that one. */
export async function countOtherInvitations(
  q: Queryable,
  { teamId, email }: { teamId: Id<"team">; email: string },
): Promise<number> {
  const isOther = sql`${teamInvitations.email} <> ${email}`;
  const [row] = await q
    .select({ open: count() })
    .from(teamInvitations)
    .where(and(eq(teamInvitations.teamId, teamId), isOther, isOpen));
  return row?.open ?? 0;
}

/** The open one of that token. */
export async function findInvitation(q: Queryable, tokenHash: string) {
  const { id, teamId, email, role } = teamInvitations;
  const [row] = await q
    .select({ id, teamId, email, role })
    .from(teamInvitations)
    .where(and(eq(teamInvitations.tokenHash, tokenHash), isOpen));
  return row;
}

/** False when the team has no such invitation, maybe any more. */
export async function deleteInvitation(
  q: Queryable,
  { id, teamId }: { id: Id<"invitation">; teamId: Id<"team"> },
): Promise<boolean> {
  const rows = await q
    .delete(teamInvitations)
    .where(and(eq(teamInvitations.id, id), eq(teamInvitations.teamId, teamId)))
    .returning({ id: teamInvitations.id });
  return rows.length === 1;
}

/** Those that a member sent, who may not any more. */
export async function deleteInvitationsBy(
  q: Queryable,
  { teamId, userId }: { teamId: Id<"team">; userId: Id<"user"> },
): Promise<void> {
  await q
    .delete(teamInvitations)
    .where(and(eq(teamInvitations.teamId, teamId), eq(teamInvitations.invitedBy, userId)));
}

/** Forgets those past their time; how many. */
export async function deleteOldInvitations(q: Queryable, limit: number): Promise<number> {
  const { id } = teamInvitations;
  const past = q
    .select({ id })
    .from(teamInvitations)
    .where(lte(teamInvitations.expiresAt, sql`now()`))
    .limit(limit);
  const rows = await q.delete(teamInvitations).where(inArray(id, past)).returning({ id });
  return rows.length;
}
