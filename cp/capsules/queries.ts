// SQL of capsules.

import { and, asc, desc, eq, inArray, lt, lte, ne, notInArray, or, sql } from "drizzle-orm";
import type { PgInsertValue, PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { Id } from "../../proto/ids.ts";
import { AGENT_COLUMNS } from "../agents/host-address.ts";
import { auditOfEach } from "../audit/record.ts";
import {
  type CapsuleState,
  ENDED_STATES,
  OPERATION_STATES,
  type SnapshotSource,
} from "../capsule-states.ts";
import { arrayOf, isAnyOf } from "../db/any-of.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import { capsules, hosts, templateOperations } from "../db/tables.ts";
import { secondsFromNow } from "../db/time.ts";
import { auditOf } from "../events/audited.ts";
import type { NewEvent } from "../events/new-event.ts";
import { eventOfEach } from "../events/outbox.ts";
import { isAbandoned } from "../operations/operations.ts";
import type { CapsuleOfTeam, CapsuleRow, Labels } from "./capsule.ts";
import { CAPSULES_LISTED_MAX } from "./limits.ts";

/** What a call about a capsule reads first, prepared: building it per request halves its rate. */
export function prepareCapsuleQueries(db: Db) {
  const ofTeam = and(
    eq(capsules.id, sql.placeholder("id")),
    eq(capsules.teamId, sql.placeholder("teamId")),
  );
  const isAsked = isAnyOf(capsules.id, "ids", "uuid");
  const many = db.select().from(capsules).where(isAsked).prepare("capsules_by_id");
  const withHost = db
    .select({ capsule: capsules, agent: AGENT_COLUMNS, hostStatus: hosts.status })
    .from(capsules)
    .leftJoin(hosts, eq(hosts.id, capsules.hostId))
    .where(ofTeam)
    .prepare("capsule_with_host");
  return {
    /** Those that there are, whatever team's. */
    many: async (ids: readonly Id<"capsule">[]): Promise<CapsuleRow[]> =>
      await many.execute({ ids: arrayOf(ids) }),
    withHost: async (ids: CapsuleOfTeam) => (await withHost.execute({ ...ids }))[0],
  };
}

export type CapsuleQueries = ReturnType<typeof prepareCapsuleQueries>;

/** The capsule of whatever team, for operations on it. */
export async function selectCapsule(
  q: Queryable,
  id: Id<"capsule">,
): Promise<CapsuleRow | undefined> {
  const [row] = await q.select().from(capsules).where(eq(capsules.id, id));
  return row;
}

/** The same, which stays as it is until the transaction ends. */
export async function lockCapsule(q: Tx, id: Id<"capsule">): Promise<CapsuleRow | undefined> {
  const [row] = await q.select().from(capsules).where(eq(capsules.id, id)).for("no key update");
  return row;
}

/** Capsules of the team that nobody destroys yet, which stay as they are until the transaction ends. */
export async function lockCapsulesToStop(q: Tx, teamId: Id<"team">): Promise<CapsuleRow[]> {
  const isToStop = notInArray(capsules.status, ["stopping", ...ENDED_STATES]);
  return await q
    .select()
    .from(capsules)
    .where(and(eq(capsules.teamId, teamId), isToStop))
    .orderBy(asc(capsules.id))
    .for("no key update");
}

/** Whether any snapshot of the capsule is being made. */
export async function hasSnapshotUnderWay(q: Queryable, id: Id<"capsule">): Promise<boolean> {
  const { templateId, capsuleId, kind } = templateOperations;
  const ofCapsule = and(eq(capsuleId, id), eq(kind, "create"));
  const rows = await q.select({ templateId }).from(templateOperations).where(ofCapsule).limit(1);
  return rows.length > 0;
}

/** The team's capsules that have not ended and have all the labels, newest first. */
export async function selectListed(
  q: Queryable,
  { teamId, labels }: { teamId: Id<"team">; labels: Labels },
): Promise<CapsuleRow[]> {
  const isAny = Object.keys(labels).length === 0;
  return await q
    .select()
    .from(capsules)
    // Literals, so that PostgreSQL sees that the partial index applies.
    .where(
      and(
        eq(capsules.teamId, teamId),
        sql`status not in ('stopped', 'error')`,
        isAny ? undefined : sql`${capsules.labels} @> ${JSON.stringify(labels)}::jsonb`,
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

/**
 * The moved row, or undefined when it was not in that state any more. It, its event and its entry in the audit
 * log are one statement, which is prepared: its texts are as many as there are kinds of moves.
 */
export async function updateState(
  q: Queryable,
  { id, from, to, operationId, unmovedSince, set }: StateChange,
  event: Omit<NewEvent, "teamId">,
): Promise<CapsuleRow | undefined> {
  const update = q
    .update(capsules)
    .set({
      stateDeadline: null,
      snapshottedFrom: null,
      ...set,
      status: to,
      lastUpdated: sql`now()`,
    })
    .where(
      and(
        eq(capsules.id, id),
        eq(capsules.status, from),
        operationId === undefined ? undefined : eq(capsules.operationId, operationId),
        unmovedSince === undefined ? undefined : lt(capsules.lastUpdated, unmovedSince),
      ),
    )
    .returning();
  const moved = q.$with("moved").as(update);
  const told = q.$with("told", {}).as(eventOfEach(moved, { ...event, teamId: moved.teamId }));
  const entry = auditOf(event);
  const { teamId } = moved;
  const noted = entry && q.$with("noted", {}).as(auditOfEach(moved, { ...entry, teamId }));
  const also = noted === null ? [told] : [told, noted];
  const [row] = await q
    .with(moved, ...also)
    .select()
    .from(moved)
    .prepare("move_capsule")
    .execute();
  return row;
}

export interface StateChangeOfHost {
  readonly hostId: Id<"host">;
  readonly from: CapsuleState;
  /** Of those that are `snapshotting`: only what was that. */
  readonly snapshottedFrom?: SnapshotSource;
  readonly to: CapsuleState;
}

/** Moves every capsule of the host that is in `from`. */
export async function updateStateOfHost(
  q: Queryable,
  { hostId, from, snapshottedFrom, to }: StateChangeOfHost,
): Promise<CapsuleRow[]> {
  return await q
    .update(capsules)
    .set({ status: to, stateDeadline: null, snapshottedFrom: null, lastUpdated: sql`now()` })
    .where(
      and(
        eq(capsules.hostId, hostId),
        eq(capsules.status, from),
        snapshottedFrom && eq(capsules.snapshottedFrom, snapshottedFrom),
      ),
    )
    .returning();
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
 *
 * A snapshot has an operation of its own, whose settling ends it: only when that is late is it looked
 * after here.
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
        or(
          lte(capsules.stateDeadline, sql`now()`),
          and(ne(capsules.status, "snapshotting"), isAbandoned()),
        ),
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
