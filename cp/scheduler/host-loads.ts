// SQL of where capsules may go: hosts, with what their capsules hold.

import { and, eq, inArray, notInArray, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import type { Id } from "../../proto/ids.ts";
import { AGENT_COLUMNS, hasAgent } from "../agents/host-address.ts";
import { ENDED_STATES, HOLDING_STATES } from "../capsule-states.ts";
import type { Queryable } from "../db/client.ts";
import { capsules, hosts, teams } from "../db/tables.ts";
import { type HostLoad, PAUSED_DISK_SHARE, PAUSED_MEMORY_SHARE } from "./placement.ts";

/** A host whose last heartbeat is older than this has fallen silent. */
export const HOST_SILENT_SEC = 90;

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
  const holds = sql`(${inArray(capsules.status, [...HOLDING_STATES])}
    and ${capsules.snapshottedFrom} is distinct from 'paused')`;
  const sum = (column: PgColumn, pausedShare: number) =>
    sql<number>`ceil(coalesce(sum(case when ${holds} then ${column}
      else ${column} * ${pausedShare}::float8 end), 0))::float8`;
  return await q
    .select({
      ...AGENT_COLUMNS,
      cpuCores: hosts.cpuCores,
      memoryMb: hosts.memoryMb,
      diskGb: hosts.diskGb,
      usedVcpus: sum(capsules.vcpus, 0),
      usedMemoryMb: sum(capsules.memoryMb, PAUSED_MEMORY_SHARE),
      usedDiskMb: sum(capsules.diskSizeMb, PAUSED_DISK_SHARE),
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
        hasAgent(),
        sql`${hosts.lastHeartbeatAt} > now() - make_interval(secs => ${HOST_SILENT_SEC})`,
      ),
    )
    .groupBy(hosts.id)
    .orderBy(hosts.createdAt, hosts.id);
}
