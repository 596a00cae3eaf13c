// SQL of deliveries.

import { and, asc, desc, eq, inArray, lt, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import { BROKEN_AFTER_FAILURES } from "../channels/channel.ts";
import type { Queryable, Tx } from "../db/client.ts";
import { channelDeliveries, channels, events } from "../db/tables.ts";
import type { Placed } from "../events/placed.ts";
import type { ClaimedDelivery, DeliveryRow, Settled, ToldDelivery } from "./delivery.ts";

/** Puts events that just got their places into the queues of the channels that are told such. */
export async function queueDeliveries(tx: Tx, { from, to }: Placed): Promise<void> {
  await tx.execute(sql`
    insert into channel_deliveries (id, channel_id, position, resource)
    select gen_random_uuid(), channels.id, events.position, events.resource->>'id'
    from events join channels
      on channels.team_id = events.team_id and events.type = any(channels.event_types)
    where events.position between ${from} and ${to}`);
}

/**
 * Takes some that are due, for that time: of each channel that is not paused the first ones, as many as it has room
 * for, and of one that is broken a single one. Of one resource nothing is taken while what comes before it is pending,
 * and what is taken stays pending, so that no two control planes can change the order.
 */
export async function claimDeliveries(
  q: Queryable,
  options: {
    claim: string;
    claimSec: number;
    limit: number;
    perChannel: number;
    /** What this control plane is at, by channel. */
    inFlight: ReadonlyMap<Id<"channel">, number>;
  },
): Promise<ClaimedDelivery[]> {
  const { claim, claimSec, limit, perChannel } = options;
  const inFlight = JSON.stringify([...options.inFlight].map(([id, count]) => ({ id, count })));
  const claimed = await q.execute<{ id: Id<"delivery"> }>(sql`
    with recursive waiting as (
      (select channel_id from channel_deliveries where status = 'pending'
        order by channel_id limit 1)
      union all
      select (select next.channel_id from channel_deliveries as next
        where next.status = 'pending' and next.channel_id > waiting.channel_id
        order by next.channel_id limit 1)
      from waiting where waiting.channel_id is not null),
    asked as (
      select channels.id, greatest(0, coalesce(busy.room,
        case when failures >= ${BROKEN_AFTER_FAILURES} then 1 else ${perChannel} end)) as room
      from waiting join channels on channels.id = waiting.channel_id
      left join lateral (
        select case when failures >= ${BROKEN_AFTER_FAILURES} then 1 else ${perChannel} end
          - busy.count as room
        from jsonb_to_recordset(${inFlight}::jsonb) as busy(id uuid, count int)
        where busy.id = channels.id) as busy on true
      where paused_until is null or paused_until <= now()),
    due as (
      select first.id from asked cross join lateral (
        select own.id from channel_deliveries as own
        where own.channel_id = asked.id and own.status = 'pending' and own.next_attempt_at <= now()
          and not exists (select 1 from channel_deliveries as before
            where before.channel_id = own.channel_id and before.resource = own.resource
              and before.status = 'pending' and before.position < own.position)
        order by own.position limit asked.room
        for update skip locked) as first
      order by random() limit ${limit})
    update channel_deliveries as own
    set claim = ${claim}::uuid, next_attempt_at = now() + make_interval(secs => ${claimSec})
    from due where own.id = due.id returning own.id`);
  if (claimed.length === 0) return [];
  const ids = claimed.map(({ id }) => id);
  return await q
    .select({ delivery: channelDeliveries, channel: channels, event: events })
    .from(channelDeliveries)
    .innerJoin(channels, eq(channels.id, channelDeliveries.channelId))
    .leftJoin(events, eq(events.position, channelDeliveries.position))
    .where(inArray(channelDeliveries.id, ids))
    .orderBy(asc(channelDeliveries.position));
}

/** Writes down what became of attempts; what somebody else has taken meanwhile stays theirs. */
export async function settleDeliveries(q: Queryable, settled: readonly Settled[]): Promise<void> {
  const rows = settled.map(({ channelId: _, ...row }) => row);
  await q.execute(sql`
    update channel_deliveries as own
    set status = result.status, attempts = result.attempts, claim = null,
      response_status = result.response_status, error = result.error,
      next_attempt_at = now() + make_interval(secs => result.in_sec),
      finished_at = case when result.status = 'pending' then null else now() end
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as result(
      id uuid, claim uuid, status text, attempts int, response_status int, error text, in_sec float8)
    where own.id = result.id and own.claim = result.claim`);
}

export interface ChannelHealth {
  readonly id: Id<"channel">;
  /** Whether an attempt succeeded, and how many have failed since. */
  readonly succeeded: boolean;
  readonly failed: number;
  /** How long the receiver wants to be left alone. */
  readonly pause_sec: number;
}

/** Pauses channels whose receivers want that, or fail again and again: from 10 s to 5 min. */
export async function noteHealth(q: Queryable, healths: readonly ChannelHealth[]): Promise<void> {
  await q.execute(sql`
    with told as (
      select channels.id, told.pause_sec,
        case when told.succeeded then told.failed else channels.failures + told.failed end as failures
      from jsonb_to_recordset(${JSON.stringify(healths)}::jsonb) as told(
        id uuid, succeeded bool, failed int, pause_sec float8)
      join channels on channels.id = told.id),
    paused as (
      select id, failures, greatest(pause_sec, case when failures >= ${BROKEN_AFTER_FAILURES}
        then least(300, 10 * power(2, least(failures - ${BROKEN_AFTER_FAILURES}, 10))) else 0 end) as sec
      from told)
    update channels set failures = paused.failures,
      paused_until = case when paused.sec > 0 then now() + make_interval(secs => paused.sec) end
    from paused where channels.id = paused.id`);
}

const TOLD = {
  delivery: channelDeliveries,
  event: { eventId: events.eventId, type: events.type },
} as const;

/** Of a channel, the latest first; before a position, if one is given. */
export async function listDeliveries(
  q: Queryable,
  options: {
    channelId: Id<"channel">;
    status: DeliveryRow["status"] | undefined;
    before: number | undefined;
    limit: number;
  },
): Promise<ToldDelivery[]> {
  const { channelId, status, before, limit } = options;
  const { position } = channelDeliveries;
  return await q
    .select(TOLD)
    .from(channelDeliveries)
    .leftJoin(events, eq(events.position, position))
    .where(
      and(
        eq(channelDeliveries.channelId, channelId),
        status === undefined ? undefined : eq(channelDeliveries.status, status),
        before === undefined ? undefined : lt(position, before),
      ),
    )
    .orderBy(desc(position))
    .limit(limit);
}

export async function findDelivery(
  q: Queryable,
  key: { id: Id<"delivery">; channelId: Id<"channel"> },
): Promise<ToldDelivery | undefined> {
  const { id, channelId, position } = channelDeliveries;
  const [row] = await q
    .select(TOLD)
    .from(channelDeliveries)
    .leftJoin(events, eq(events.position, position))
    .where(and(eq(id, key.id), eq(channelId, key.channelId)));
  return row;
}

/** False where it waits, or is no delivery of the channel. */
export async function queueAgain(
  q: Queryable,
  key: { id: Id<"delivery">; channelId: Id<"channel"> },
): Promise<boolean> {
  const { id, channelId, status } = channelDeliveries;
  const rows = await q
    .update(channelDeliveries)
    .set({
      status: "pending",
      attempts: 0,
      claim: null,
      finishedAt: null,
      // Its time begins anew.
      createdAt: sql`now()`,
      nextAttemptAt: sql`now()`,
    })
    .where(
      and(eq(id, key.id), eq(channelId, key.channelId), inArray(status, ["delivered", "dead"])),
    )
    .returning({ id });
  return rows.length === 1;
}

/** Gives up what has waited too long, and that nobody is at; how many it were. */
export async function buryOld(
  q: Queryable,
  { hours, limit }: { hours: number; limit: number },
): Promise<number> {
  const rows = await q.execute(sql`
    update channel_deliveries set status = 'dead', finished_at = now(), claim = null,
      error = case when error = '' then 'not delivered in time' else error end
    where id in (
      select id from channel_deliveries
      where status = 'pending' and next_attempt_at <= now()
        and created_at < now() - make_interval(hours => ${hours})
      limit ${limit} for update skip locked)
    returning id`);
  return rows.length;
}

/** Forgets deliveries of events that are not kept any more; how many it were. */
export async function deleteOldDeliveries(q: Queryable, limit: number): Promise<number> {
  const rows = await q.execute(sql`
    with oldest as (select coalesce(min(position), 0) as position from events)
    delete from channel_deliveries where id in (
      select past.id from channels cross join oldest cross join lateral (
        select id from channel_deliveries
        where channel_id = channels.id and channel_deliveries.position < oldest.position
        limit ${limit}) as past
      limit ${limit})
    returning id`);
  return rows.length;
}
