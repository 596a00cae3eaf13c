// SQL of capsules.

import { and, desc, eq, inArray, lt, lte, notInArray, or, sql } from "drizzle-orm";
import type { PgColumn, PgInsertValue, PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { Id } from "../../proto/ids.ts";
import type { Db, Queryable } from "../db/client.ts";
import { capsules, hosts, teams } from "../db/tables.ts";
import { type CapsuleState, ENDED_STATES, HOLDING_STATES, OPERATION_STATES } from "./lifecycle.ts";
import { CAPSULES_LISTED_MAX } from "./limits.ts";
import { isAbandoned } from "./operations.ts";
import { type HostLoad, RESTING_DISK_SHARE, RESTING_MEMORY_SHARE } from "./placement.ts";
import type { CapsuleRow } from "./schema.ts";

export type HostStatus = (typeof hosts.$inferSelect)["status"];

/** A host whose last heartbeat is older than this has fallen silent. */
export const HOST_SILENT_SEC = 90;

/** What a call about a capsule reads first, prepared: building it per request halves its rate. */
export function prepareCapsuleQueries(db: Db) {
  const ofTeam = and(
    eq(capsules.id, sql.placeholder("id")),
    eq(capsules.teamId, sql.placeholder("teamId")),
  );
  const one = db.select().from(capsules).where(ofTeam).prepare("capsule_one");
  const withHost = db
    .select({ capsule: capsules, hostAddress: hosts.address, hostStatus: hosts.status })
    .from(capsules)
    .leftJoin(hosts, eq(hosts.id, capsules.hostId))
    .where(ofTeam)
    .prepare("capsule_with_host");
  return {
    one: async (ids: CapsuleOfTeam): Promise<CapsuleRow | undefined> =>
      (await one.execute({ ...ids }))[0],
    withHost: async (ids: CapsuleOfTeam) => (await withHost.execute({ ...ids }))[0],
  };
}

export type CapsuleQueries = ReturnType<typeof prepareCapsuleQueries>;

export interface CapsuleOfTeam {
  readonly id: Id<"capsule">;
  readonly teamId: Id<"team">;
}

/** The capsule of whatever team, for operations on it. */
export async function selectCapsule(
  q: Queryable,
  id: Id<"capsule">,
): Promise<CapsuleRow | undefined> {
  const [row] = await q.select().from(capsules).where(eq(capsules.id, id));
  return row;
}

/** The team's capsules that are or may come back, newest first. */
export async function selectListed(q: Queryable, teamId: Id<"team">): Promise<CapsuleRow[]> {
  return await q
    .select()
    .from(capsules)
    // Literals, so that PostgreSQL sees that the partial index applies. To clients `stopping` is
    // `stopped`.
    .where(
      and(
        eq(capsules.teamId, teamId),
        sql`status not in ('stopped', 'error') and status <> 'stopping'`,
      ),
    )
    .orderBy(desc(capsules.createdAt), desc(capsules.id))
    .limit(CAPSULES_LISTED_MAX);
}

export async function insertCapsule(
  q: Queryable,
  row: PgInsertValue<typeof capsules>,
): Promise<CapsuleRow> {
  const [inserted] = await q.insert(capsules).values(row).returning();
  if (inserted === undefined) throw new Error("unreachable: insert returned no row");
  return inserted;
}

export interface StateChange {
  readonly id: Id<"capsule">;
  readonly from: CapsuleState;
  readonly to: CapsuleState;
  /** Only if the row still belongs to this operation. */
  readonly operationId?: string;
  /** Only if the row has not moved since. */
  readonly unmovedSince?: Date;
  readonly set?: PgUpdateSetSource<typeof capsules>;
}

/** The moved row, or undefined when it was not in that state any more. */
export async function updateState(
  q: Queryable,
  { id, from, to, operationId, unmovedSince, set }: StateChange,
): Promise<CapsuleRow | undefined> {
  const [moved] = await q
    .update(capsules)
    .set({ stateDeadline: null, ...set, status: to, lastUpdated: sql`now()` })
    .where(
      and(
        eq(capsules.id, id),
        eq(capsules.status, from),
        operationId === undefined ? undefined : eq(capsules.operationId, operationId),
        unmovedSince === undefined ? undefined : lt(capsules.lastUpdated, unmovedSince),
      ),
    )
    .returning();
  return moved;
}

/** Moves every capsule of the host that is in `from`. */
export async function updateStateOfHost(
  q: Queryable,
  { hostId, from, to }: { hostId: Id<"host">; from: CapsuleState; to: CapsuleState },
): Promise<CapsuleRow[]> {
  return await q
    .update(capsules)
    .set({ status: to, stateDeadline: null, lastUpdated: sql`now()` })
    .where(and(eq(capsules.hostId, hostId), eq(capsules.status, from)))
    .returning();
}

/** What a capsule has from the moment it runs, as its host says. */
export function runningColumns(told: { hostIp: string; metadata: Record<string, string> }) {
  const startedAt = sql<Date>`now()`;
  return { hostIp: told.hostIp, metadata: told.metadata, startedAt, lastActiveAt: startedAt };
}

/** The given seconds from now, by the database's clock. */
export function secondsFromNow(seconds: number) {
  return sql<Date>`now() + make_interval(secs => ${seconds})`;
}

/** Says when a loop looks at the operation again, if it still is that operation. */
export async function updateDeadline(
  q: Queryable,
  change: { id: Id<"capsule">; operationId: string; afterSec: number },
): Promise<void> {
  await q
    .update(capsules)
    .set({ stateDeadline: secondsFromNow(change.afterSec) })
    .where(
      and(
        eq(capsules.id, change.id),
        eq(capsules.operationId, change.operationId),
        inArray(capsules.status, [...OPERATION_STATES]),
      ),
    );
}

/**
 * Takes over operations that nobody works on: those of dead control planes and those past their
 * deadline. Two callers never get the same one. The rows come back under the new operation id; `q`
 * is a transaction.
 */
export async function claimAbandoned(
  q: Queryable,
  { operationId, leaseSec, limit }: { operationId: string; leaseSec: number; limit: number },
): Promise<CapsuleRow[]> {
  const abandoned = await q
    .select({ id: capsules.id })
    .from(capsules)
    .where(
      and(
        inArray(capsules.status, [...OPERATION_STATES]),
        or(lte(capsules.stateDeadline, sql`now()`), isAbandoned()),
      ),
    )
    .limit(limit)
    .for("update", { skipLocked: true });
  if (abandoned.length === 0) return [];
  const ids = abandoned.map(({ id }) => id);
  return await q
    .update(capsules)
    .set({ operationId, stateDeadline: secondsFromNow(leaseSec) })
    .where(inArray(capsules.id, ids))
    .returning();
}

/** Sets the informational time of last activity, at most once a second. */
export async function touchCapsule(q: Queryable, id: Id<"capsule">): Promise<void> {
  await q
    .update(capsules)
    .set({ lastActiveAt: sql`now()` })
    .where(
      and(
        eq(capsules.id, id),
        or(
          sql`${capsules.lastActiveAt} is null`,
          lt(capsules.lastActiveAt, sql`now() - interval '1 second'`),
        ),
      ),
    );
}

/** Where the agent of the host listens; undefined when there is no such host any more. */
export async function selectHost(
  q: Queryable,
  id: Id<"host">,
): Promise<{ address: string; status: HostStatus } | undefined> {
  const columns = { address: hosts.address, status: hosts.status };
  const [host] = await q.select(columns).from(hosts).where(eq(hosts.id, id));
  return host;
}

/** Hosts that may take a capsule of the team, oldest first, with what their capsules hold. */
export async function selectCandidateHosts(q: Queryable, teamId: Id<"team">): Promise<HostLoad[]> {
  const [team] = await q.select({ isByoc: teams.isByoc }).from(teams).where(eq(teams.id, teamId));
  const rightKind =
    team?.isByoc === true
      ? and(eq(hosts.type, "byoc"), eq(hosts.teamId, teamId))
      : eq(hosts.type, "regular");
  return await hostLoads(q, rightKind);
}

/**
 * The host as it is once every other placement on it is over, or undefined when it takes no more
 * capsules. Holds the host's row until the transaction ends.
 */
export async function lockHost(q: Queryable, id: Id<"host">): Promise<HostLoad | undefined> {
  await q.select({ id: hosts.id }).from(hosts).where(eq(hosts.id, id)).for("no key update");
  // A statement of its own: it sees what the holder before us has committed.
  return (await hostLoads(q, eq(hosts.id, id)))[0];
}

async function hostLoads(q: Queryable, which: ReturnType<typeof and>): Promise<HostLoad[]> {
  const holds = sql`${inArray(capsules.status, [...HOLDING_STATES])}`;
  const sum = (column: PgColumn, restingShare: number) =>
    sql<number>`ceil(coalesce(sum(case when ${holds} then ${column}
      else ${column} * ${restingShare}::float8 end), 0))::float8`;
  return await q
    .select({
      id: hosts.id,
      address: hosts.address,
      cpuCores: hosts.cpuCores,
      memoryMb: hosts.memoryMb,
      diskGb: hosts.diskGb,
      usedVcpus: sum(capsules.vcpus, 0),
      usedMemoryMb: sum(capsules.memoryMb, RESTING_MEMORY_SHARE),
      usedDiskMb: sum(capsules.diskSizeMb, RESTING_DISK_SHARE),
    })
    .from(hosts)
    .leftJoin(
      capsules,
      and(
        eq(capsules.hostId, hosts.id),
        notInArray(capsules.status, [...ENDED_STATES, "hibernated"]),
      ),
    )
    .where(
      and(
        which,
        eq(hosts.status, "online"),
        sql`${hosts.address} <> ''`,
        sql`${hosts.lastHeartbeatAt} > now() - make_interval(secs => ${HOST_SILENT_SEC})`,
      ),
    )
    .groupBy(hosts.id)
    .orderBy(hosts.createdAt, hosts.id);
}
