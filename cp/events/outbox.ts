// Events are written in the transaction that makes them true; delivery reads them from the table.
// Each noun says which types there are of its own.

import { type SQL, type SQLWrapper, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import type { Id } from "../../proto/ids.ts";
import type { Db, Queryable } from "../db/client.ts";
import { events } from "../db/tables.ts";
import { deleteOldEvents } from "./queries.ts";

/** Who made it happen. Ids in their external form; the platform itself has none. */
export interface EventActor {
  readonly type: "user" | "api_key" | "system";
  readonly id: string;
  readonly name: string;
}

export const SYSTEM_ACTOR: EventActor = { type: "system", id: "", name: "" };

export interface NewEvent {
  readonly teamId: Id<"team">;
  /** What it is about: of which kind, in the words of the event specification, and its external id. */
  readonly subject: { readonly type: string; readonly id: string };
  readonly type: string;
  readonly outcome: "success" | "error" | "";
  readonly actor: EventActor;
  readonly metadata?: Readonly<Record<string, string>>;
  /** The cause when the outcome is `error`; for clients. */
  readonly error?: string;
}

/** Writes what happened, in that order; `q` is the transaction of the change that it tells of. */
export async function recordEvents(q: Queryable, recorded: readonly NewEvent[]): Promise<void> {
  if (recorded.length === 0) return;
  await q
    .insert(events)
    .values(recorded.map(({ subject, ...columns }) => ({ ...columns, resource: { ...subject } })));
}

/**
 * The insertion of an event about each row of a common table expression, in the team that the row says: a part of
 * the statement that makes the change.
 */
export function eventOfEach(
  rows: SQLWrapper,
  { teamId, ...event }: Omit<NewEvent, "teamId"> & { readonly teamId: SQLWrapper },
): SQL {
  const { subject, type, outcome, actor, metadata = {}, error = "" } = event;
  const jsonOf = (value: unknown, column: PgColumn) => sql`${sql.param(value, column)}::jsonb`;
  return sql`
    insert into ${events} (team_id, type, outcome, actor, resource, metadata, error)
    select ${teamId}, ${type}, ${outcome}, ${jsonOf(actor, events.actor)},
      ${jsonOf(subject, events.resource)}, ${jsonOf(metadata, events.metadata)}, ${error}
    from ${rows}`;
}

/** How long events can be delivered, or asked for, after the fact. */
const EVENTS_TTL_DAYS = 30;

/** Forgets events past their time, at most `limit`; returns how many. */
export async function expireEvents(db: Db, limit: number): Promise<number> {
  return await deleteOldEvents(db, { days: EVENTS_TTL_DAYS, limit });
}
