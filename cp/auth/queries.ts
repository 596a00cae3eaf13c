// SQL of credentials and of the accounts they belong to.

import { and, eq, isNull, lt, or, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import { teamApiKeys, teams, users, usersTeams } from "../db/tables.ts";

/** The statements of the hot path, built once: building them per request halves its rate. */
export function prepareAuthQueries(db: Db) {
  const apiKeyByHash = db
    .select({
      id: teamApiKeys.id,
      name: teamApiKeys.name,
      teamId: teamApiKeys.teamId,
      lastUsed: teamApiKeys.lastUsed,
    })
    .from(teamApiKeys)
    .innerJoin(teams, eq(teams.id, teamApiKeys.teamId))
    .where(and(eq(teamApiKeys.keyHash, sql.placeholder("keyHash")), isNull(teams.deletedAt)))
    .prepare("auth_api_key");

  const userWithMembership = db
    .select({
      id: users.id,
      email: users.email,
      name: users.name,
      status: users.status,
      isAdmin: users.isAdmin,
      role: usersTeams.role,
      teamDeletedAt: teams.deletedAt,
    })
    .from(users)
    .leftJoin(
      usersTeams,
      and(eq(usersTeams.userId, users.id), eq(usersTeams.teamId, sql.placeholder("teamId"))),
    )
    .leftJoin(teams, eq(teams.id, usersTeams.teamId))
    .where(eq(users.id, sql.placeholder("userId")))
    .prepare("auth_user");

  return {
    apiKeyByHash: async (keyHash: string) => (await apiKeyByHash.execute({ keyHash }))[0],
    userWithMembership: async (ids: { userId: Id<"user">; teamId: Id<"team"> }) =>
      (await userWithMembership.execute(ids))[0],
  };
}

export type AuthQueries = ReturnType<typeof prepareAuthQueries>;

/** Stamps the key unless another request did so after `before`. */
export async function touchApiKey(
  db: Db,
  { id, now, before }: { id: Id<"apiKey">; now: Date; before: Date },
): Promise<void> {
  await db
    .update(teamApiKeys)
    .set({ lastUsed: now })
    .where(
      and(
        eq(teamApiKeys.id, id),
        or(isNull(teamApiKeys.lastUsed), lt(teamApiKeys.lastUsed, before)),
      ),
    );
}
