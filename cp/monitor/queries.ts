// SQL that holds capsules against what their hosts say.

import { and, eq, exists, inArray, isNull, lt, notExists, notInArray, or, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { AgentOfHost } from "../agents/agent-clients.ts";
import { AGENT_COLUMNS, hasAgent } from "../agents/host-address.ts";
import { ENDED_STATES, LIVE_STATES } from "../capsule-states.ts";
import type { CapsuleRow } from "../capsules/capsule.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import { capsules, capsuleUsage, hosts, unknownCapsules } from "../db/tables.ts";
import { HOST_SILENT_SEC } from "../scheduler/host-loads.ts";

export interface HostToAsk extends AgentOfHost {
  readonly id: Id<"host">;
}

/** Hosts whose agents can be asked for their capsules. */
export async function selectHostsToAsk(q: Queryable): Promise<HostToAsk[]> {
  return await q
    .select(AGENT_COLUMNS)
    .from(hosts)
    .where(and(inArray(hosts.status, ["online", "draining"]), hasAgent()));
}

/** Hosts whose agents should have told that they live, and have not for too long. */
export async function selectSilentHosts(q: Queryable): Promise<{ id: Id<"host"> }[]> {
  return await q.select({ id: hosts.id }).from(hosts).where(isSilent());
}

/** Marks the host unreachable if it is silent still; undefined when it is not. */
export async function updateHostUnreachable(
  tx: Tx,
  id: Id<"host">,
): Promise<{ teamId: Id<"team"> | null } | undefined> {
  const [host] = await tx
    .update(hosts)
    .set({ status: "unreachable", updatedAt: sql`now()` })
    .where(and(eq(hosts.id, id), isSilent()))
    .returning({ teamId: hosts.teamId });
  return host;
}

/** Capsules that the host should have, and those it has by what it says. */
export async function selectCapsulesOfHost(
  q: Queryable,
  { hostId, ids }: { hostId: Id<"host">; ids: Id<"capsule">[] },
): Promise<CapsuleRow[]> {
  return await q
    .select()
    .from(capsules)
    .where(
      or(
        and(eq(capsules.hostId, hostId), inArray(capsules.status, [...LIVE_STATES])),
        inArray(capsules.id, ids),
      ),
    );
}

/** Takes over times of last activity that are later than what is on record. */
export async function updateLastActive(
  q: Queryable,
  active: readonly { id: Id<"capsule">; unixSec: number }[],
): Promise<void> {
  const reported = sql`unnest(
    ${sql.param(active.map(({ id }) => id))}::uuid[],
    ${sql.param(active.map(({ unixSec }) => unixSec))}::float8[]
  ) as reported (id, unix_sec)`;
  await q
    .update(capsules)
    .set({ lastActiveAt: sql`to_timestamp(reported.unix_sec)` })
    .from(reported)
    .where(
      and(
        sql`${capsules.id} = reported.id`,
        inArray(capsules.status, ["running", "snapshotting"]),
        // Agents tell whole seconds.
        lt(
          sql`${capsules.lastActiveAt} + interval '1 second'`,
          sql`to_timestamp(reported.unix_sec)`,
        ),
      ),
    );
}

/** Takes over what capsules of the host use of their disks, where that is another size by now. */
export async function updateDiskUsed(
  q: Queryable,
  used: readonly { id: Id<"capsule">; mib: number }[],
): Promise<void> {
  const reported = sql`unnest(
    ${sql.param(used.map(({ id }) => id))}::uuid[],
    ${sql.param(used.map(({ mib }) => mib))}::integer[]
  ) as reported (id, mib)`;
  await q
    .update(capsules)
    .set({ diskUsedMb: sql`reported.mib` })
    .from(reported)
    .where(
      and(
        sql`${capsules.id} = reported.id`,
        sql`${capsules.diskUsedMb} is distinct from reported.mib`,
      ),
    );
}

/**
 * Counts today what capsules of the host have sent since they told so last. A sum never goes back, so what is less was
 * asked for before what is known.
 */
export async function countSent(
  q: Queryable,
  sent: readonly { id: Id<"capsule">; bytes: number }[],
): Promise<void> {
  // The row is held until what is new of it is counted: nobody else counts that, too.
  await q.execute(sql`
    with known as (
      select ${capsules.id} as id, ${capsules.teamId} as team_id, ${capsules.sentBytes} as bytes, reported.bytes as now
      from ${capsules} join unnest(
        ${sql.param(sent.map(({ id }) => id))}::uuid[],
        ${sql.param(sent.map(({ bytes }) => bytes))}::bigint[]
      ) as reported (id, bytes) on reported.id = ${capsules.id}
      where reported.bytes > ${capsules.sentBytes}
      order by ${capsules.id}
      for no key update of ${capsules}
    ), moved as (
      update ${capsules} set sent_bytes = known.now from known where ${capsules.id} = known.id
    )
    insert into ${capsuleUsage} as counted (capsule_id, day, team_id, sent_bytes)
    select id, (now() at time zone 'UTC')::date, team_id, now - bytes from known
    on conflict (capsule_id, day) do update set
      sent_bytes = counted.sent_bytes + excluded.sent_bytes`);
}

/** Takes over since when pauses are durable: of capsules that were paused before `asOf`. */
export async function updateDurable(
  q: Queryable,
  durable: readonly { id: Id<"capsule">; unixSec: number }[],
  asOf: Date,
): Promise<void> {
  const reported = sql`unnest(
    ${sql.param(durable.map(({ id }) => id))}::uuid[],
    ${sql.param(durable.map(({ unixSec }) => unixSec))}::float8[]
  ) as reported (id, unix_sec)`;
  await q
    .update(capsules)
    .set({ durableAt: sql`to_timestamp(reported.unix_sec)` })
    .from(reported)
    .where(
      and(
        sql`${capsules.id} = reported.id`,
        eq(capsules.status, "paused"),
        isNull(capsules.durableAt),
        lt(capsules.lastUpdated, asOf),
      ),
    );
}

function isSilent() {
  return and(
    inArray(hosts.status, ["online", "draining"]),
    or(
      sql`${hosts.lastHeartbeatAt} is null`,
      lt(hosts.lastHeartbeatAt, sql`now() - make_interval(secs => ${HOST_SILENT_SEC})`),
    ),
  );
}

/**
 * Gives the host the capsules that it has of hosts that are no more: it registered again, under a new id. A team's
 * own host gets the team's only, for what it says it has is for whoever runs it to say. Returns how many.
 */
export async function adoptOfDeletedHosts(
  q: Queryable,
  { hostId, ids }: { hostId: Id<"host">; ids: Id<"capsule">[] },
): Promise<number> {
  const mayHave = or(eq(hosts.type, "regular"), eq(hosts.teamId, capsules.teamId));
  const adopted = await q
    .update(capsules)
    .set({ hostId })
    .where(
      and(
        inArray(capsules.id, ids),
        notInArray(capsules.status, [...ENDED_STATES]),
        notExists(q.select().from(hosts).where(eq(hosts.id, capsules.hostId))),
        exists(
          q
            .select()
            .from(hosts)
            .where(and(eq(hosts.id, hostId), mayHave)),
        ),
      ),
    )
    .returning({ id: capsules.id });
  return adopted.length;
}

export interface UnknownCapsule {
  readonly id: Id<"capsule">;
  /** Since it was first seen. */
  readonly ageSec: number;
  readonly isNew: boolean;
  readonly isQuarantined: boolean;
}

/** Notes what the host has that no record knows; what it had of that before and has no more is forgotten. */
export async function noteUnknown(
  db: Db,
  { hostId, ids }: { hostId: Id<"host">; ids: readonly Id<"capsule">[] },
): Promise<UnknownCapsule[]> {
  const known = await db
    .select({
      id: unknownCapsules.capsuleId,
      ageSec: sql<number>`extract(epoch from now() - ${unknownCapsules.firstSeenAt})::float8`,
      quarantinedAt: unknownCapsules.quarantinedAt,
    })
    .from(unknownCapsules)
    .where(eq(unknownCapsules.hostId, hostId));
  const gone = known.map(({ id }) => id).filter((id) => !ids.includes(id));
  if (gone.length > 0) {
    await db
      .delete(unknownCapsules)
      .where(and(eq(unknownCapsules.hostId, hostId), inArray(unknownCapsules.capsuleId, gone)));
  }
  const fresh = ids.filter((id) => !known.some((k) => k.id === id));
  if (fresh.length > 0) {
    const rows = fresh.map((capsuleId) => ({ hostId, capsuleId }));
    await db.insert(unknownCapsules).values(rows).onConflictDoNothing();
  }
  return [
    ...fresh.map((id) => ({ id, ageSec: 0, isNew: true, isQuarantined: false })),
    ...known
      .filter(({ id }) => ids.includes(id))
      .map(({ id, ageSec, quarantinedAt }) => {
        return { id, ageSec, isNew: false, isQuarantined: quarantinedAt !== null };
      }),
  ];
}

export async function updateQuarantined(
  q: Queryable,
  { hostId, id }: { hostId: Id<"host">; id: Id<"capsule"> },
): Promise<void> {
  await q
    .update(unknownCapsules)
    .set({ quarantinedAt: sql`now()` })
    .where(and(eq(unknownCapsules.hostId, hostId), eq(unknownCapsules.capsuleId, id)));
}
