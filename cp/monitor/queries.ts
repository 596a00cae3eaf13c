// SQL that holds capsules against what their hosts say.

import { and, eq, inArray, isNull, lt, or, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import { LIVE_STATES } from "../capsule-states.ts";
import type { CapsuleRow } from "../capsules/schema.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import { capsules, hosts } from "../db/tables.ts";
import { HOST_SILENT_SEC } from "../scheduler/host-loads.ts";

export interface HostToAsk {
  readonly id: Id<"host">;
  readonly address: string;
}

/** Hosts whose agents can be asked for their capsules. */
export async function selectHostsToAsk(q: Queryable): Promise<HostToAsk[]> {
  return await q
    .select({ id: hosts.id, address: hosts.address })
    .from(hosts)
    .where(and(inArray(hosts.status, ["online", "draining"]), sql`${hosts.address} <> ''`));
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

/** The database's time: what is compared with the times it writes. */
export async function databaseNow(db: Db): Promise<Date> {
  const [row] = await db.execute<{ now: string }>(sql`select now()::text as now`);
  if (row === undefined) throw new Error("unreachable: select without a row");
  return new Date(row.now);
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
        eq(capsules.status, "running"),
        // Agents tell whole seconds.
        lt(
          sql`${capsules.lastActiveAt} + interval '1 second'`,
          sql`to_timestamp(reported.unix_sec)`,
        ),
      ),
    );
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
