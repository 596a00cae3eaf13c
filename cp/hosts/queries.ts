// SQL of hosts and of their agents' credentials.

import { and, asc, desc, eq, gt, lt, or, sql } from "drizzle-orm";
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
 * Has a host online that is pending or whose credentials were revoked; undefined for any other. Heartbeats are
 * stamped by the database, here and below: its clock is the one that they are compared with.
 */
export async function bringHostOnline(
  q: Queryable,
  id: Id<"host">,
  facts: HostFacts,
): Promise<HostRow | undefined> {
  const now = sql`now()`;
  const awaitsAgent = or(eq(hosts.status, "pending"), eq(hosts.certName, ""));
  const [row] = await q
    .update(hosts)
    .set({ ...facts, status: "online", lastHeartbeatAt: now, updatedAt: now })
    .where(and(eq(hosts.id, id), awaitsAgent))
    .returning();
  return row;
}

/** What its agent shows from now on. */
export async function updateCertificate(
  q: Queryable,
  id: Id<"host">,
  certificate: Pick<HostRow, "certName" | "certFingerprint" | "certExpiresAt">,
): Promise<void> {
  await q.update(hosts).set(certificate).where(eq(hosts.id, id));
}

/** Nothing that the host's agent has is good any more: it is not called, and has to register again. */
export async function revokeCredentials(q: Queryable, id: Id<"host">): Promise<void> {
  await q.delete(hostRefreshTokens).where(eq(hostRefreshTokens.hostId, id));
  await updateCertificate(q, id, { certName: "", certFingerprint: "", certExpiresAt: null });
}

/** Prepared: every agent sends one each 30 s. Of credentials that were revoked none counts. */
export function prepareHeartbeat(db: Db) {
  const { id, certName } = hosts;
  return db
    .update(hosts)
    .set({ lastHeartbeatAt: sql`now()` })
    .where(and(eq(id, sql.placeholder("hostId")), eq(certName, sql.placeholder("certName"))))
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
 * The refresh token, used or not, with whether that was within the grace; undefined when it is unknown or has
 * expired. Holds its row until the transaction ends.
 */
export async function lockRefreshToken(
  q: Queryable,
  { hash, graceSec }: { hash: string; graceSec: number },
) {
  const { revokedAt, tokenHash, expiresAt } = hostRefreshTokens;
  const [row] = await q
    .select({
      token: hostRefreshTokens,
      isFresh: sql<boolean>`coalesce(${gt(revokedAt, secondsFromNow(-graceSec))}, true)`,
    })
    .from(hostRefreshTokens)
    .where(and(eq(tokenHash, hash), gt(expiresAt, sql`now()`)))
    .for("no key update");
  return row;
}

/** Notes the use of the refresh token; its first use is what the grace counts from. */
export async function noteRefresh(
  q: Queryable,
  { id, usedForKey }: { id: Id<"hostRefreshToken">; usedForKey: string },
): Promise<void> {
  const { revokedAt } = hostRefreshTokens;
  await q
    .update(hostRefreshTokens)
    .set({ usedForKey, revokedAt: sql`coalesce(${revokedAt}, now())` })
    .where(eq(hostRefreshTokens.id, id));
}

/** Forgets the host's refresh tokens that have expired: the others tell when one is used twice. */
export async function deleteExpiredRefreshTokens(q: Queryable, id: Id<"host">): Promise<void> {
  const { hostId, expiresAt } = hostRefreshTokens;
  await q.delete(hostRefreshTokens).where(and(eq(hostId, id), lt(expiresAt, sql`now()`)));
}
