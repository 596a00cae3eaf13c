// SQL of what people may know of their own account.

import { and, asc, eq, exists, isNull, or, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/pg-core";
import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import { oauthProviders, teams, users, usersTeams } from "../db/tables.ts";

/** What `GET /v1/me` tells of a person beyond their name and address. */
export async function findSignInMethods(
  db: Db,
  id: Id<"user">,
): Promise<{ hasPassword: boolean; providers: string[] }> {
  const [row] = await db
    .select({ passwordHash: users.passwordHash })
    .from(users)
    .where(eq(users.id, id));
  const providers = await db
    .select({ provider: oauthProviders.provider })
    .from(oauthProviders)
    .where(eq(oauthProviders.userId, id))
    .orderBy(oauthProviders.provider);
  return {
    hasPassword: row !== undefined && row.passwordHash !== null,
    providers: providers.map(({ provider }) => provider),
  };
}

export interface FoundUser {
  readonly id: Id<"user">;
  readonly email: string;
}

/** Active users with that address, or who share a living team with `by` and whose address begins so. */
export async function searchUsers(
  db: Db,
  { by, start, limit }: { by: Id<"user">; start: string; limit: number },
): Promise<FoundUser[]> {
  const own = alias(usersTeams, "own");
  const theirs = alias(usersTeams, "theirs");
  const together = db
    .select({ one: sql`1` })
    .from(own)
    .innerJoin(theirs, eq(theirs.teamId, own.teamId))
    .innerJoin(teams, eq(teams.id, own.teamId))
    .where(and(eq(own.userId, by), eq(theirs.userId, users.id), isNull(teams.deletedAt)));
  const begins = sql`starts_with(${users.email}, ${start})`;
  return await db
    .select({ id: users.id, email: users.email })
    .from(users)
    .where(and(eq(users.status, "active"), begins, or(eq(users.email, start), exists(together))))
    .orderBy(asc(users.email))
    .limit(limit);
}
