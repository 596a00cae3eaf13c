// SQL of what administrators see and change of everybody's accounts and teams.

import { and, asc, count, eq, inArray, isNull, ne, notInArray, type SQL, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import type { Id } from "../../proto/ids.ts";
import { ENDED_STATES, HOLDING_STATES } from "../capsule-states.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import { capsules, teamApiKeys, teamInvitations, teams, users, usersTeams } from "../db/tables.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import type { HostLoad, ListedTeam, ListedUser, Page } from "./listed.ts";

// In what a select of one table returns, Drizzle leaves out whose a column is: subqueries say it themselves.

export async function countUsers(db: Db): Promise<number> {
  return (await db.select({ total: count() }).from(users))[0]?.total ?? 0;
}

/** Oldest first. */
export async function selectUsers(db: Db, { page, perPage }: Page): Promise<ListedUser[]> {
  const living = sql.raw(`from users_teams join teams on teams.id = users_teams.team_id
    where users_teams.user_id = users.id and teams.deleted_at is null`);
  return await db
    .select({
      id: users.id,
      email: users.email,
      name: users.name,
      isAdmin: users.isAdmin,
      status: users.status,
      createdAt: users.createdAt,
      teamsJoined: sql<number>`(select count(*)::int ${living})`,
      teamsOwned: sql<number>`(select count(*)::int ${living} and users_teams.role = 'owner')`,
    })
    .from(users)
    .orderBy(asc(users.createdAt), asc(users.id))
    .limit(perPage)
    .offset((page - 1) * perPage);
}

export async function countTeams(db: Db): Promise<number> {
  const others = ne(teams.id, PLATFORM_TEAM);
  return (await db.select({ total: count() }).from(teams).where(others))[0]?.total ?? 0;
}

/** Oldest first, deleted ones last, without the platform's own. */
export async function selectTeams(db: Db, { page, perPage }: Page): Promise<ListedTeam[]> {
  const running = sql.raw(`from capsules where capsules.team_id = teams.id
    and (capsules.status in ('pending', 'starting', 'running', 'pausing', 'resuming')
      or capsules.snapshotted_from = 'running')`);
  const owner = sql.raw(`from users_teams join users on users.id = users_teams.user_id
    where users_teams.team_id = teams.id and users_teams.role = 'owner'`);
  return await db
    .select({
      team: teams,
      memberCount: sql<number>`(select count(*)::int from users_teams
        where users_teams.team_id = teams.id)`,
      ownerName: sql<string | null>`(select users.name ${owner})`,
      ownerEmail: sql<string | null>`(select users.email ${owner})`,
      activeSandboxCount: sql<number>`(select count(*)::int ${running})`,
      runningVcpus: sql<number>`(select coalesce(sum(capsules.vcpus), 0)::int ${running})`,
      runningMemoryMb: sql<number>`(select coalesce(sum(capsules.memory_mb), 0)::int ${running})`,
      channelCount: sql<number>`(select count(*)::int from channels
        where channels.team_id = teams.id)`,
    })
    .from(teams)
    .where(ne(teams.id, PLATFORM_TEAM))
    .orderBy(sql`(${teams.deletedAt} is not null)`, asc(teams.createdAt), asc(teams.id))
    .limit(perPage)
    .offset((page - 1) * perPage);
}

/** What capsules hold of the hosts that have some. */
export async function selectHostLoads(
  db: Db,
): Promise<(HostLoad & { readonly hostId: Id<"host"> })[]> {
  const { hostId, status, snapshottedFrom, vcpus, memoryMb, diskSizeMb } = capsules;
  const isPaused = sql`(${status} = 'paused' or ${snapshottedFrom} is not distinct from 'paused')`;
  const isRunning = sql`(${inArray(status, [...HOLDING_STATES])} and not ${isPaused})`;
  const sum = (column: PgColumn, which: SQL) =>
    sql<number>`coalesce(sum(${column}) filter (where ${which}), 0)::float8`;
  const rows = await db
    .select({
      hostId,
      runningVcpus: sum(vcpus, isRunning),
      runningMemoryMb: sum(memoryMb, isRunning),
      runningDiskMb: sum(diskSizeMb, isRunning),
      pausedMemoryMb: sum(memoryMb, isPaused),
      pausedDiskMb: sum(diskSizeMb, isPaused),
    })
    .from(capsules)
    .where(notInArray(status, [...ENDED_STATES]))
    .groupBy(hostId);
  return rows.flatMap(({ hostId: id, ...load }) => (id === null ? [] : [{ hostId: id, ...load }]));
}

/** The account, held until the transaction ends. */
export async function lockUser(q: Tx, id: Id<"user">) {
  return (await q.select().from(users).where(eq(users.id, id)).for("update"))[0];
}

export async function updateStatus(
  q: Queryable,
  { id, status }: { id: Id<"user">; status: "active" | "disabled" },
): Promise<void> {
  await q
    .update(users)
    .set({ status, deletedAt: null, updatedAt: sql`now()` })
    .where(eq(users.id, id));
}

export async function updateAdmin(
  q: Queryable,
  { id, isAdmin }: { id: Id<"user">; isAdmin: boolean },
): Promise<void> {
  await q.update(users).set({ isAdmin, updatedAt: sql`now()` }).where(eq(users.id, id));
}

/** What they gave themselves and others to get in by. */
export async function deleteKeysAndInvitationsOf(q: Queryable, id: Id<"user">): Promise<void> {
  await q.delete(teamApiKeys).where(eq(teamApiKeys.createdBy, id));
  await q.delete(teamInvitations).where(eq(teamInvitations.invitedBy, id));
}

/** Whether they administer the platform: until the transaction ends, if that holds the administrators' lock. */
export async function isAdministrator(q: Queryable, id: Id<"user">): Promise<boolean> {
  const isActive = and(eq(users.id, id), eq(users.status, "active"), eq(users.isAdmin, true));
  return (await q.select({ id: users.id }).from(users).where(isActive)).length === 1;
}

/** The living teams that the user owns. */
export async function selectOwnedTeams(q: Queryable, id: Id<"user">): Promise<Id<"team">[]> {
  const rows = await q
    .select({ id: teams.id })
    .from(usersTeams)
    .innerJoin(teams, eq(teams.id, usersTeams.teamId))
    .where(and(eq(usersTeams.userId, id), eq(usersTeams.role, "owner"), isNull(teams.deletedAt)));
  return rows.map((row) => row.id);
}

/** The living team but for the platform's own, held until the transaction ends. */
export async function lockTeam(q: Tx, id: Id<"team">) {
  const isLiving = and(eq(teams.id, id), isNull(teams.deletedAt), ne(teams.id, PLATFORM_TEAM));
  return (await q.select().from(teams).where(isLiving).for("update"))[0];
}

export async function updateByoc(
  q: Queryable,
  { id, isByoc }: { id: Id<"team">; isByoc: boolean },
): Promise<void> {
  await q.update(teams).set({ isByoc }).where(eq(teams.id, id));
}
