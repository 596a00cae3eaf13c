// SQL of API keys.

import { and, count, desc, eq, isNull } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { teamApiKeys, teams, users, usersTeams } from "../db/tables.ts";
import type { ApiKeyRow } from "./api-key.ts";

export async function insertApiKey(
  q: Queryable,
  key: typeof teamApiKeys.$inferInsert,
): Promise<ApiKeyRow> {
  const [row] = await q.insert(teamApiKeys).values(key).returning();
  if (row === undefined) throw new Error("unreachable: an insert returns its row");
  return row;
}

/** Newest first, each with the mail address of its creator while that account exists. */
export async function listApiKeys(q: Queryable, teamId: Id<"team">) {
  return await q
    .select({ key: teamApiKeys, creatorEmail: users.email })
    .from(teamApiKeys)
    .leftJoin(users, eq(users.id, teamApiKeys.createdBy))
    .where(eq(teamApiKeys.teamId, teamId))
    .orderBy(desc(teamApiKeys.createdAt), desc(teamApiKeys.id));
}

/** False when the team has no such key, by that creator if one is named. */
export async function deleteApiKey(
  q: Queryable,
  key: { id: Id<"apiKey">; teamId: Id<"team">; createdBy: Id<"user"> | undefined },
): Promise<boolean> {
  const isMadeBy = key.createdBy && eq(teamApiKeys.createdBy, key.createdBy);
  const rows = await q
    .delete(teamApiKeys)
    .where(and(eq(teamApiKeys.id, key.id), eq(teamApiKeys.teamId, key.teamId), isMadeBy))
    .returning({ id: teamApiKeys.id });
  return rows.length === 1;
}

export async function hasApiKey(
  q: Queryable,
  key: { id: Id<"apiKey">; teamId: Id<"team"> },
): Promise<boolean> {
  const rows = await q
    .select({ id: teamApiKeys.id })
    .from(teamApiKeys)
    .where(and(eq(teamApiKeys.id, key.id), eq(teamApiKeys.teamId, key.teamId)));
  return rows.length === 1;
}

/** Holds the number of the team's keys, and who is in it, until the transaction ends. */
export async function lockTeam(q: Queryable, teamId: Id<"team">): Promise<void> {
  await q.select({ id: teams.id }).from(teams).where(eq(teams.id, teamId)).for("update");
}

/** Whether the user is a member who can sign in: until the transaction ends, if that has locked the team. */
export async function isActiveMember(
  q: Queryable,
  { teamId, userId }: { teamId: Id<"team">; userId: Id<"user"> },
): Promise<boolean> {
  const isIn = and(eq(usersTeams.userId, users.id), eq(usersTeams.teamId, teamId));
  const rows = await q
    .select({ id: users.id })
    .from(users)
    .innerJoin(usersTeams, isIn)
    .innerJoin(teams, eq(teams.id, usersTeams.teamId))
    .where(and(eq(users.id, userId), eq(users.status, "active"), isNull(teams.deletedAt)))
    .for("share", { of: users });
  return rows.length === 1;
}

export async function countApiKeys(q: Queryable, teamId: Id<"team">): Promise<number> {
  const [row] = await q
    .select({ keys: count() })
    .from(teamApiKeys)
    .where(eq(teamApiKeys.teamId, teamId));
  return row?.keys ?? 0;
}
