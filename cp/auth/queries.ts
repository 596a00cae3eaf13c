// SQL of credentials and of the accounts they belong to.

import { and, eq, isNull, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import { arrayOf, isAnyOf } from "../db/any-of.ts";
import type { Db } from "../db/client.ts";
import { teamApiKeys, teams, users, usersTeams } from "../db/tables.ts";

/** How exactly the last use of a key is kept: a write for each request would cost more than it. */
const LAST_USED_RESOLUTION_SEC = 60;

const isStampDue = sql<boolean>`(${teamApiKeys.lastUsed} is null
  or ${teamApiKeys.lastUsed} < now() - make_interval(secs => ${LAST_USED_RESOLUTION_SEC}))`;

/** The statements of the hot path, built once: building them per request halves its rate. */
export function prepareAuthQueries(db: Db) {
  const apiKeysByHash = db
    .select({
      id: teamApiKeys.id,
      keyHash: teamApiKeys.keyHash,
      name: teamApiKeys.name,
      teamId: teamApiKeys.teamId,
      /** Whether its last use was so long ago, by the database's clock, that this one is to be kept. */
      isStampDue,
    })
    .from(teamApiKeys)
    .innerJoin(teams, eq(teams.id, teamApiKeys.teamId))
    .where(and(isAnyOf(teamApiKeys.keyHash, "keyHashes", "text"), isNull(teams.deletedAt)))
    .prepare("auth_api_keys");

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
    /** Those that there are, in hexadecimal digits. */
    apiKeysByHash: async (keyHashes: readonly string[]) =>
      await apiKeysByHash.execute({ keyHashes: arrayOf(keyHashes) }),
    userWithMembership: async (ids: { userId: Id<"user">; teamId: Id<"team"> }) =>
      (await userWithMembership.execute(ids))[0],
  };
}

export type AuthQueries = ReturnType<typeof prepareAuthQueries>;

/** Stamps the key unless another request just did. */
export async function touchApiKey(db: Db, id: Id<"apiKey">): Promise<void> {
  await db
    .update(teamApiKeys)
    .set({ lastUsed: sql`now()` })
    .where(and(eq(teamApiKeys.id, id), isStampDue));
}
