// SQL of hosts and of their agents' credentials.

import { and, asc, desc, eq, gt, isNull, lt, or, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Db, Queryable } from "../db/client.ts";
import { deletedHosts, hostRefreshTokens, hosts, hostTokens, teams } from "../db/tables.ts";
import { secondsFromNow } from "../db/time.ts";
import type { HostFacts, HostRow } from "./host.ts";

/** Hosts are machines one registers by hand or by a fleet tool; the list needs an end. */
const HOSTS_LISTED_MAX = 1000;

export async function insertHost(q: Queryable, host: typeof hosts.$inferInsert): Promise<HostRow> {
  const [row] = await q.insert(hosts).values(host).returning();
  if (row === undefined) throw new Error("unreachable: an insert returns its row");
  return row;
}

export async function insertHostToken(
  q: Queryable,
  token: typeof hostTokens.$inferInsert,
): Promise<void> {
  await q.insert(hostTokens).values(token);
}

export async function markHostTokenUsed(
  q: Queryable,
  { id, now }: { id: Id<"hostToken">; now: Date },
): Promise<void> {
  await q.update(hostTokens).set({ usedAt: now }).where(eq(hostTokens.id, id));
}

/** The host with the name of the team it belongs to, if it belongs to one. */
export async function findHost(q: Queryable, id: Id<"host">) {
  const [row] = await selectHosts(q).where(eq(hosts.id, id));
  return row;
}

/** All hosts, or those of one team; newest first. */
export async function listHosts(q: Queryable, teamId: Id<"team"> | null) {
  return await selectHosts(q)
    .where(teamId === null ? undefined : and(eq(hosts.teamId, teamId), eq(hosts.type, "byoc")))
    .orderBy(desc(hosts.createdAt), asc(hosts.id))
    .limit(HOSTS_LISTED_MAX);
}

function selectHosts(q: Queryable) {
  return q
    .select({ host: hosts, teamName: teams.name })
    .from(hosts)
    .leftJoin(teams, eq(teams.id, hosts.teamId));
}

/**
 * Moves the host from pending to online; undefined when it isn't pending. Heartbeats are stamped by the
 * database, here and below: its clock is the one that they are compared with.
 */
export async function bringHostOnline(
  q: Queryable,
  id: Id<"host">,
  facts: HostFacts,
): Promise<HostRow | undefined> {
  const now = sql`now()`;
  const [row] = await q
    .update(hosts)
    .set({ ...facts, status: "online", lastHeartbeatAt: now, updatedAt: now })
    .where(and(eq(hosts.id, id), eq(hosts.status, "pending")))
    .returning();
  return row;
}

/** Prepared: every agent sends one each 30 s. */
export function prepareHeartbeat(db: Db) {
  return db
    .update(hosts)
    .set({ lastHeartbeatAt: sql`now()` })
    .where(eq(hosts.id, sql.placeholder("id")))
    .returning({ status: hosts.status })
    .prepare("host_heartbeat");
}

/** Whether there was such a host: a database restored from before it was made never knew it. */
export async function wasDeleted(q: Queryable, id: Id<"host">): Promise<boolean> {
  return (await q.select().from(deletedHosts).where(eq(deletedHosts.id, id))).length > 0;
}

/** Moves the host from unreachable to online; undefined when it isn't unreachable. */
export async function markHostReachable(
  q: Queryable,
  id: Id<"host">,
): Promise<HostRow | undefined> {
  const [row] = await q
    .update(hosts)
    .set({ status: "online", updatedAt: sql`now()` })
    .where(and(eq(hosts.id, id), eq(hosts.status, "unreachable")))
    .returning();
  return row;
}

export async function insertRefreshToken(
  q: Queryable,
  {
    ttlSec,
    ...token
  }: { id: Id<"hostRefreshToken">; hostId: Id<"host">; tokenHash: string; ttlSec: number },
): Promise<void> {
  await q.insert(hostRefreshTokens).values({ ...token, expiresAt: secondsFromNow(ttlSec) });
}

/**
 * Revokes the refresh token and returns its host; undefined when it is unknown, expired, or was
 * revoked longer ago than the grace. One revoked since then keeps the moment of its first use.
 */
export async function useRefreshToken(
  q: Queryable,
  { hash, graceSec }: { hash: string; graceSec: number },
): Promise<Id<"host"> | undefined> {
  const { revokedAt, hostId, tokenHash, expiresAt } = hostRefreshTokens;
  const [row] = await q
    .update(hostRefreshTokens)
    .set({ revokedAt: sql`coalesce(${revokedAt}, now())` })
    .where(
      and(
        eq(tokenHash, hash),
        gt(expiresAt, sql`now()`),
        or(isNull(revokedAt), gt(revokedAt, secondsFromNow(-graceSec))),
      ),
    )
    .returning({ hostId });
  return row?.hostId;
}

/** Forgets the host's refresh tokens that can't be used again. */
export async function deleteDeadRefreshTokens(
  q: Queryable,
  options: { hostId: Id<"host">; graceSec: number },
): Promise<void> {
  const { hostId, revokedAt, expiresAt } = hostRefreshTokens;
  const isDead = or(lt(expiresAt, sql`now()`), lt(revokedAt, secondsFromNow(-options.graceSec)));
  await q.delete(hostRefreshTokens).where(and(eq(hostId, options.hostId), isDead));
}
