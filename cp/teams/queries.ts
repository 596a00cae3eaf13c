// SQL of teams and memberships.

import { and, asc, count, desc, eq, gt, isNull, ne, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { reservedSlugs, teamApiKeys, teams, users, usersTeams } from "../db/tables.ts";
import { secondsFromNow } from "../db/time.ts";
import { deleteInvitationsBy } from "./invitation-queries.ts";
import type { MemberRow, TeamRole, TeamRow } from "./team.ts";

export async function insertTeam(
  q: Queryable,
  team: { id: Id<"team">; name: string; slug: string; createdAt: Date },
): Promise<TeamRow> {
  const [row] = await q.insert(teams).values(team).returning();
  if (row === undefined) throw new Error("unreachable: an insert returns its row");
  return row;
}

export async function insertMember(
  q: Queryable,
  member: {
    teamId: Id<"team">;
    userId: Id<"user">;
    role: TeamRole;
    isDefault: boolean;
    createdAt: Date;
  },
): Promise<void> {
  await q.insert(usersTeams).values(member);
}

/** The living team; undefined when it is unknown or deleted. */
export async function findTeam(q: Queryable, id: Id<"team">): Promise<TeamRow | undefined> {
  const [row] = await q
    .select()
    .from(teams)
    .where(and(eq(teams.id, id), isNull(teams.deletedAt)));
  return row;
}

/** The user's role in the team; undefined when they are no member. */
export async function findRole(
  q: Queryable,
  ids: { teamId: Id<"team">; userId: Id<"user"> },
): Promise<TeamRole | undefined> {
  const [row] = await q
    .select({ role: usersTeams.role })
    .from(usersTeams)
    .where(and(eq(usersTeams.teamId, ids.teamId), eq(usersTeams.userId, ids.userId)));
  return row?.role;
}

/** The living teams of a user: their default team first, then as they were joined. */
export async function listTeamsToSignInto(q: Queryable, userId: Id<"user">) {
  return await selectTeamsOf(q, userId).orderBy(
    desc(usersTeams.isDefault),
    asc(usersTeams.createdAt),
    asc(teams.id),
  );
}

/** The living teams of a user as they were joined. */
export async function listTeams(q: Queryable, userId: Id<"user">) {
  return await selectTeamsOf(q, userId).orderBy(asc(usersTeams.createdAt), asc(teams.id));
}

function selectTeamsOf(q: Queryable, userId: Id<"user">) {
  return q
    .select({ team: teams, role: usersTeams.role, isDefault: usersTeams.isDefault })
    .from(usersTeams)
    .innerJoin(teams, eq(teams.id, usersTeams.teamId))
    .where(and(eq(usersTeams.userId, userId), isNull(teams.deletedAt)));
}

/** Serialises what is done to the set of a user's teams, until the transaction ends; whether they can sign in. */
export async function lockUser(q: Queryable, userId: Id<"user">): Promise<boolean> {
  const isUser = eq(users.id, userId);
  const [row] = await q.select({ status: users.status }).from(users).where(isUser).for("update");
  return row?.status === "active";
}

export async function countOwnedTeams(q: Queryable, userId: Id<"user">): Promise<number> {
  const [row] = await q
    .select({ owned: count() })
    .from(usersTeams)
    .innerJoin(teams, eq(teams.id, usersTeams.teamId))
    .where(
      and(eq(usersTeams.userId, userId), eq(usersTeams.role, "owner"), isNull(teams.deletedAt)),
    );
  return row?.owned ?? 0;
}

/** Takes the default mark off whatever team of the user has it. */
export async function clearDefaultTeam(q: Queryable, userId: Id<"user">): Promise<void> {
  await q
    .update(usersTeams)
    .set({ isDefault: false })
    .where(and(eq(usersTeams.userId, userId), eq(usersTeams.isDefault, true)));
}

/** The living team, held until the transaction ends; undefined when it is unknown or deleted. */
export async function findTeamLocked(q: Queryable, id: Id<"team">): Promise<TeamRow | undefined> {
  const [row] = await q
    .select()
    .from(teams)
    .where(and(eq(teams.id, id), isNull(teams.deletedAt)))
    .for("update");
  return row;
}

export async function updateTeamName(
  q: Queryable,
  { id, name }: { id: Id<"team">; name: string },
): Promise<void> {
  await q.update(teams).set({ name }).where(eq(teams.id, id));
}

/** The members of a team as they joined it. */
export async function listMembers(q: Queryable, teamId: Id<"team">): Promise<MemberRow[]> {
  return await selectMembers(q)
    .where(eq(usersTeams.teamId, teamId))
    .orderBy(asc(usersTeams.createdAt), asc(users.id));
}

export async function findMember(
  q: Queryable,
  ids: { teamId: Id<"team">; userId: Id<"user"> },
): Promise<MemberRow | undefined> {
  const [row] = await selectMembers(q).where(
    and(eq(usersTeams.teamId, ids.teamId), eq(usersTeams.userId, ids.userId)),
  );
  return row;
}

function selectMembers(q: Queryable) {
  return q
    .select({
      userId: users.id,
      name: users.name,
      email: users.email,
      status: users.status,
      role: usersTeams.role,
      joinedAt: usersTeams.createdAt,
    })
    .from(usersTeams)
    .innerJoin(users, eq(users.id, usersTeams.userId));
}

/** The active account with the address, which stays so until the transaction ends. */
export async function findActiveUser(q: Queryable, email: string) {
  const [row] = await q
    .select({ id: users.id, name: users.name, email: users.email })
    .from(users)
    .where(and(eq(users.email, email), eq(users.status, "active")))
    .for("share");
  return row;
}

export async function updateRole(
  q: Queryable,
  { teamId, userId, role }: { teamId: Id<"team">; userId: Id<"user">; role: TeamRole },
): Promise<void> {
  await q
    .update(usersTeams)
    .set({ role })
    .where(and(eq(usersTeams.teamId, teamId), eq(usersTeams.userId, userId)));
}

/** Takes the member out, with the keys that they made and so know, and the invitations that they sent. */
export async function deleteMember(
  q: Queryable,
  ids: { teamId: Id<"team">; userId: Id<"user"> },
): Promise<void> {
  await q
    .delete(teamApiKeys)
    .where(and(eq(teamApiKeys.teamId, ids.teamId), eq(teamApiKeys.createdBy, ids.userId)));
  await deleteInvitationsBy(q, ids);
  await q
    .delete(usersTeams)
    .where(and(eq(usersTeams.teamId, ids.teamId), eq(usersTeams.userId, ids.userId)));
}

/** Whether another team, living or deleted, has the slug, or had it until lately. */
export async function isSlugTaken(
  q: Queryable,
  { slug, by }: { slug: string; by: Id<"team"> | null },
): Promise<boolean> {
  const others = by === null ? undefined : ne(teams.id, by);
  const reservers = by === null ? undefined : ne(reservedSlugs.teamId, by);
  const isReserved = and(eq(reservedSlugs.slug, slug), gt(reservedSlugs.expiresAt, sql`now()`));
  const held = await q
    .select({ id: teams.id })
    .from(teams)
    .where(and(eq(teams.slug, slug), others));
  if (held.length > 0) return true;
  const reserved = await q
    .select({ slug: reservedSlugs.slug })
    .from(reservedSlugs)
    .where(and(isReserved, reservers));
  return reserved.length > 0;
}

/** Any constant: it names the lock under which slugs are given. */
const SLUGS_LOCK = 7_221_504;

/** Until the transaction ends nobody else gives a slug. */
export async function lockSlugs(q: Queryable): Promise<void> {
  await q.execute(sql`select pg_advisory_xact_lock(${SLUGS_LOCK})`);
}

/** Gives the team another slug, and keeps the one before for it alone. */
export async function updateSlug(
  q: Queryable,
  { team, slug, reservedSec }: { team: TeamRow; slug: string; reservedSec: number },
): Promise<void> {
  await q.delete(reservedSlugs).where(eq(reservedSlugs.slug, slug));
  const reservation = { teamId: team.id, expiresAt: secondsFromNow(reservedSec) };
  await q
    .insert(reservedSlugs)
    .values({ slug: team.slug, ...reservation })
    .onConflictDoUpdate({
      target: reservedSlugs.slug,
      set: { ...reservation, reservedAt: sql`now()` },
    });
  await q.update(teams).set({ slug, slugChangedAt: sql`now()` }).where(eq(teams.id, team.id));
}
