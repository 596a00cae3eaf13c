// SQL of credentials and of the accounts they belong to.

import { and, eq, gt, inArray, isNull, or, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import { arrayOf, isAnyOf } from "../db/any-of.ts";
import type { Db } from "../db/client.ts";
import { sessions, type TEAM_ROLES, teamApiKeys, teams, users, usersTeams } from "../db/tables.ts";
import { secondsFromNow } from "../db/time.ts";

type TeamRole = (typeof TEAM_ROLES)[number];

/** How exactly the last use of a key or a session is kept. */
const LAST_USED_RESOLUTION_SEC = 60;
/** A session that nobody has used for so long is over. */
const SESSION_IDLE_SEC = 6 * 3600;

const isKeyStampDue = sql<boolean>`(${teamApiKeys.lastUsed} is null
  or ${teamApiKeys.lastUsed} < now() - make_interval(secs => ${LAST_USED_RESOLUTION_SEC}))`;
const isKeyAlive = or(isNull(teamApiKeys.expiresAt), gt(teamApiKeys.expiresAt, sql`now()`));
const isSessionStampDue = sql<boolean>`
  (${sessions.lastSeenAt} < now() - make_interval(secs => ${LAST_USED_RESOLUTION_SEC}))`;

/** Of the team's own limits; null where it is held to that of the settings. */
const requestsPerMinute = sql<number | null>`(${teams.limits} ->> 'requestsPerMinute')::int`;

/** By the database's clock. */
export const isSessionAlive = and(
  gt(sessions.expiresAt, sql`now()`),
  gt(sessions.lastSeenAt, secondsFromNow(-SESSION_IDLE_SEC)),
);

/** The statements of the hot path, built once: building them per request halves its rate. */
export function prepareAuthQueries(db: Db) {
  const apiKeysByHash = db
    .select({
      id: teamApiKeys.id,
      keyHash: teamApiKeys.keyHash,
      name: teamApiKeys.name,
      teamId: teamApiKeys.teamId,
      scopes: teamApiKeys.scopes,
      requestsPerMinute,
      /** Whether its last use was so long ago, by the database's clock, that this one is to be kept. */
      isStampDue: isKeyStampDue,
    })
    .from(teamApiKeys)
    .innerJoin(teams, eq(teams.id, teamApiKeys.teamId))
    .where(
      and(isAnyOf(teamApiKeys.keyHash, "keyHashes", "text"), isNull(teams.deletedAt), isKeyAlive),
    )
    .prepare("auth_api_keys");

  const sessionsById = db
    .select({
      id: sessions.id,
      teamId: sessions.teamId,
      requestsPerMinute,
      isStampDue: isSessionStampDue,
      userId: users.id,
      email: users.email,
      name: users.name,
      status: users.status,
      isAdmin: users.isAdmin,
      /** Null once the user is no member, or the team is deleted. */
      role: sql<TeamRole | null>`case when ${teams.deletedAt} is null then ${usersTeams.role} end`,
    })
    .from(sessions)
    .innerJoin(users, eq(users.id, sessions.userId))
    .innerJoin(teams, eq(teams.id, sessions.teamId))
    .leftJoin(
      usersTeams,
      and(eq(usersTeams.userId, sessions.userId), eq(usersTeams.teamId, sessions.teamId)),
    )
    .where(and(isAnyOf(sessions.id, "ids", "text"), isSessionAlive))
    .prepare("auth_sessions");

  return {
    /** Those that there are, in hexadecimal digits. */
    apiKeysByHash: async (keyHashes: readonly string[]) =>
      await apiKeysByHash.execute({ keyHashes: arrayOf(keyHashes) }),
    /** Those that live, with whose they are. */
    sessionsById: async (ids: readonly string[]) =>
      await sessionsById.execute({ ids: arrayOf(ids) }),
  };
}

export type AuthQueries = ReturnType<typeof prepareAuthQueries>;

/** Stamps those keys that are due. What another control plane is at, it stamps. */
export async function stampApiKeys(db: Db, ids: readonly Id<"apiKey">[]): Promise<void> {
  const due = db
    .select({ id: teamApiKeys.id })
    .from(teamApiKeys)
    .where(and(inArray(teamApiKeys.id, [...ids]), isKeyStampDue))
    .for("no key update", { skipLocked: true });
  await db.update(teamApiKeys).set({ lastUsed: sql`now()` }).where(inArray(teamApiKeys.id, due));
}

/** The same of sessions, but for those that are over. */
export async function stampSessions(db: Db, ids: readonly string[]): Promise<void> {
  const due = db
    .select({ id: sessions.id })
    .from(sessions)
    .where(and(inArray(sessions.id, [...ids]), isSessionAlive, isSessionStampDue))
    .for("no key update", { skipLocked: true });
  await db.update(sessions).set({ lastSeenAt: sql`now()` }).where(inArray(sessions.id, due));
}
