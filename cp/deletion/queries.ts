// SQL of deleting accounts and teams.

import {
  and,
  asc,
  count,
  eq,
  inArray,
  isNotNull,
  isNull,
  lte,
  notInArray,
  or,
  sql,
} from "drizzle-orm";
import { encodeId, type Id } from "../../proto/ids.ts";
import { ENDED_STATES } from "../capsule-states.ts";
import type { CapsuleRow } from "../capsules/capsule.ts";
import { arrayOf } from "../db/any-of.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import {
  auditLogs,
  capsuleMetricPoints,
  capsuleMetricsSnapshots,
  capsules,
  channels,
  events,
  hosts,
  idempotencyKeys,
  teamApiKeys,
  teamInvitations,
  teams,
  templateOperations,
  templates,
  users,
  usersTeams,
} from "../db/tables.ts";
import { secondsFromNow } from "../db/time.ts";

type UserRow = typeof users.$inferSelect;
/** Points that one statement deletes: it must end in time. */
const POINTS_BATCH = 50_000;
const NOBODY = "deleted-user";
const NOBODYS_KEY = "deleted-key";

/** The account, held until the transaction ends; undefined unless it is active. */
export async function lockActiveUser(q: Tx, id: Id<"user">): Promise<UserRow | undefined> {
  const isActive = and(eq(users.id, id), eq(users.status, "active"));
  return (await q.select().from(users).where(isActive).for("update"))[0];
}

export interface OwnedTeam {
  readonly id: Id<"team">;
  readonly name: string;
  readonly members: number;
}

/** The living teams of which the user is the owner, held until the transaction ends. */
export async function lockOwnedTeams(q: Tx, userId: Id<"user">): Promise<OwnedTeam[]> {
  const owned = q
    .select({ id: usersTeams.teamId })
    .from(usersTeams)
    .where(and(eq(usersTeams.userId, userId), eq(usersTeams.role, "owner")));
  const locked = await q
    .select({ id: teams.id, name: teams.name })
    .from(teams)
    .where(and(inArray(teams.id, owned), isNull(teams.deletedAt)))
    .orderBy(asc(teams.id))
    .for("update");
  const counted: OwnedTeam[] = [];
  for (const team of locked) {
    const isIn = eq(usersTeams.teamId, team.id);
    const [row] = await q.select({ members: count() }).from(usersTeams).where(isIn);
    counted.push({ ...team, members: row?.members ?? 0 });
  }
  return counted;
}

/** The living team, held until the transaction ends, and the role of that user in it. */
export async function lockTeam(
  q: Tx,
  { teamId, userId }: { teamId: Id<"team">; userId: Id<"user"> },
): Promise<{ role: (typeof usersTeams.$inferSelect)["role"] | undefined } | undefined> {
  const isLiving = and(eq(teams.id, teamId), isNull(teams.deletedAt));
  const found = await q.select({ id: teams.id }).from(teams).where(isLiving).for("update");
  if (found.length === 0) return undefined;
  const isMember = and(eq(usersTeams.teamId, teamId), eq(usersTeams.userId, userId));
  const [member] = await q.select({ role: usersTeams.role }).from(usersTeams).where(isMember);
  return { role: member?.role };
}

/** The team is no more for anybody; what it owns is to be removed. */
export async function markTeamDeleted(q: Tx, id: Id<"team">): Promise<void> {
  await q.update(teams).set({ deletedAt: sql`now()`, purgeAt: sql`now()` }).where(eq(teams.id, id));
  await q.delete(teamApiKeys).where(eq(teamApiKeys.teamId, id));
  await q.delete(channels).where(eq(channels.teamId, id));
  await q.delete(teamInvitations).where(eq(teamInvitations.teamId, id));
  // Who signs in next gets another team.
  await q.update(usersTeams).set({ isDefault: false }).where(eq(usersTeams.teamId, id));
}

/** Nobody signs in to the account any more; its address stays taken. Which living teams it was in. */
export async function markUserDeleted(q: Tx, id: Id<"user">): Promise<Id<"team">[]> {
  await q
    .update(users)
    .set({ status: "deleted", isAdmin: false, deletedAt: sql`now()`, updatedAt: sql`now()` })
    .where(eq(users.id, id));
  await q.delete(teamApiKeys).where(eq(teamApiKeys.createdBy, id));
  await q.delete(teamInvitations).where(eq(teamInvitations.invitedBy, id));
  const living = q.select({ id: teams.id }).from(teams).where(isNull(teams.deletedAt));
  const left = await q
    .delete(usersTeams)
    .where(and(eq(usersTeams.userId, id), inArray(usersTeams.teamId, living)))
    .returning({ teamId: usersTeams.teamId });
  return left.map(({ teamId }) => teamId);
}

/**
 * Deleted teams whose turn it is, of which no other pass gets one until the lease is over; `q` is a
 * transaction.
 */
export async function claimTeamsToPurge(
  q: Tx,
  { leaseSec, limit }: { leaseSec: number; limit: number },
): Promise<Id<"team">[]> {
  const due = await q
    .select({ id: teams.id })
    .from(teams)
    .where(and(isNotNull(teams.deletedAt), lte(teams.purgeAt, sql`now()`)))
    .orderBy(asc(teams.purgeAt))
    .limit(limit)
    .for("update", { skipLocked: true });
  const ids = due.map(({ id }) => id);
  if (ids.length === 0) return [];
  await q
    .update(teams)
    .set({ purgeAt: secondsFromNow(leaseSec) })
    .where(inArray(teams.id, ids));
  return ids;
}

export async function updatePurgeAt(q: Queryable, id: Id<"team">, afterSec: number): Promise<void> {
  await q
    .update(teams)
    .set({ purgeAt: secondsFromNow(afterSec) })
    .where(and(eq(teams.id, id), isNotNull(teams.purgeAt)));
}

/** Capsules of the team that nobody destroys yet. */
export async function selectCapsulesToDestroy(
  q: Queryable,
  teamId: Id<"team">,
  limit: number,
): Promise<CapsuleRow[]> {
  return await q
    .select()
    .from(capsules)
    .where(
      and(eq(capsules.teamId, teamId), notInArray(capsules.status, ["stopping", ...ENDED_STATES])),
    )
    .limit(limit);
}

export async function selectTemplateNames(
  q: Queryable,
  teamId: Id<"team">,
  limit: number,
): Promise<string[]> {
  const rows = await q
    .select({ name: templates.name })
    .from(templates)
    .where(eq(templates.teamId, teamId))
    .limit(limit);
  return rows.map(({ name }) => name);
}

/** Whether any host has, or may have, something of the team. */
export async function hasAnythingOnHosts(q: Queryable, teamId: Id<"team">): Promise<boolean> {
  const [row] = await q.execute<{ has: boolean }>(sql`select
    exists (select from ${capsules} where ${capsules.teamId} = ${teamId}
      and ${notInArray(capsules.status, [...ENDED_STATES])})
    or exists (select from ${templates} where ${templates.teamId} = ${teamId})
    or exists (select from ${templateOperations} where ${templateOperations.teamId} = ${teamId}) as has`);
  return row?.has ?? true;
}

/** What is measured of the team's capsules, a part of it; whether there is more. */
export async function deleteMetricPoints(db: Db, teamId: Id<"team">): Promise<boolean> {
  const gone = await db.execute(sql`delete from ${capsuleMetricPoints} where ctid in (
    select points.ctid from ${capsuleMetricPoints} points
    join ${capsules} on ${capsules.id} = points.capsule_id
    where ${capsules.teamId} = ${teamId} limit ${POINTS_BATCH})`);
  return gone.count >= POINTS_BATCH;
}

/** The last of what the team owned: its own hosts, keys of requests and measures. Its days of use stay. */
export async function deleteRestOfTeam(q: Tx, teamId: Id<"team">): Promise<void> {
  await q.delete(capsuleMetricsSnapshots).where(eq(capsuleMetricsSnapshots.teamId, teamId));
  await q.delete(idempotencyKeys).where(eq(idempotencyKeys.teamId, teamId));
  await q.delete(hosts).where(eq(hosts.teamId, teamId));
  await q.update(capsules).set({ labels: {} }).where(eq(capsules.teamId, teamId));
  await q.update(teams).set({ purgeAt: null }).where(eq(teams.id, teamId));
}

/** Accounts that were deleted that long ago. */
export async function selectUsersToPurge(
  q: Queryable,
  { graceDays, limit }: { graceDays: number; limit: number },
): Promise<Id<"user">[]> {
  const rows = await q
    .select({ id: users.id })
    .from(users)
    .where(isPastGrace(graceDays))
    .orderBy(asc(users.deletedAt))
    .limit(limit);
  return rows.map(({ id }) => id);
}

/** One of them, held until the transaction ends; undefined when another pass has it, or it is none by now. */
export async function lockUserToPurge(
  q: Tx,
  id: Id<"user">,
  graceDays: number,
): Promise<UserRow | undefined> {
  const [row] = await q
    .select()
    .from(users)
    .where(and(eq(users.id, id), isPastGrace(graceDays)))
    .for("update", { skipLocked: true });
  return row;
}

/** Forgets the person: what happened stays told, but not of whom. */
export async function deleteUser(q: Tx, { id, email }: UserRow): Promise<void> {
  const actorId = encodeId("user", id);
  await forgetKeysOf(q, actorId);
  await q
    .update(auditLogs)
    .set({
      ...{ actorName: NOBODY, actorId: null, ipAddress: null },
      // What they called things.
      metadata: sql`${auditLogs.metadata} - 'name'`,
    })
    .where(eq(auditLogs.actorId, actorId));
  await q.update(auditLogs).set({ resourceId: null }).where(eq(auditLogs.resourceId, actorId));
  await q
    .update(auditLogs)
    .set({ metadata: sql`${auditLogs.metadata} - 'email'` })
    .where(sql`lower(${auditLogs.metadata} ->> 'email') = ${email}`);
  const nobody = { type: "user", id: "", name: NOBODY } as const;
  for (const table of [events, templateOperations]) {
    await q.update(table).set({ actor: nobody }).where(sql`${table.actor} ->> 'id' = ${actorId}`);
  }
  await q.delete(teamInvitations).where(eq(teamInvitations.email, email));
  await forgetTeamsOf(q, id);
  await q.delete(users).where(eq(users.id, id));
}

/** What their keys did is told of by what they called those, in the logs of whatever teams. */
async function forgetKeysOf(q: Tx, actorId: string): Promise<void> {
  const { resourceId, resourceType, action } = auditLogs;
  const isMade = and(eq(resourceType, "api_key"), eq(action, "create"), isNotNull(resourceId));
  const made = await q
    .select({ id: resourceId })
    .from(auditLogs)
    .where(and(eq(auditLogs.actorId, actorId), isMade));
  const keys = made.flatMap(({ id }) => (id === null ? [] : [id]));
  if (keys.length === 0) return;
  await q
    .update(auditLogs)
    .set({ actorName: NOBODYS_KEY })
    .where(and(eq(auditLogs.actorType, "api_key"), inArray(auditLogs.actorId, keys)));
  const name = sql`jsonb_build_object('name', ${NOBODYS_KEY}::text)`;
  for (const table of [events, templateOperations]) {
    await q
      .update(table)
      .set({ actor: sql`${table.actor} || ${name}` })
      .where(sql`${table.actor} ->> 'id' = any(${arrayOf(keys)}::text[])`);
  }
}

/** Deleted teams that were the person's alone are told of by name, which may be the person's. */
async function forgetTeamsOf(q: Tx, userId: Id<"user">): Promise<void> {
  const owned = q
    .select({ id: usersTeams.teamId })
    .from(usersTeams)
    .innerJoin(teams, eq(teams.id, usersTeams.teamId))
    .where(
      and(eq(usersTeams.userId, userId), eq(usersTeams.role, "owner"), isNotNull(teams.deletedAt)),
    );
  await q.update(auditLogs).set({ metadata: {} }).where(inArray(auditLogs.teamId, owned));
  await q.delete(events).where(inArray(events.teamId, owned));
  await q.update(teams).set({ name: "deleted-team" }).where(inArray(teams.id, owned));
}

function isPastGrace(days: number) {
  const isOld = lte(users.deletedAt, sql`now() - make_interval(days => ${days}::int)`);
  return and(eq(users.status, "deleted"), or(isOld, isNull(users.deletedAt)));
}
