// SQL of teams and memberships.

import { and, asc, count, desc, eq, isNull } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { teams, users, usersTeams } from "../db/tables.ts";
import type { TeamRole, TeamRow } from "./team.ts";

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

/** Serialises what one user does to the set of their teams, until the transaction ends. */
export async function lockUser(q: Queryable, userId: Id<"user">): Promise<void> {
  await q.select({ id: users.id }).from(users).where(eq(users.id, userId)).for("update");
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
