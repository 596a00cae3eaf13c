// Events are written in the transaction that makes them true; delivery reads them from the table.
// Each noun says which types there are of its own.

import { type SQL, type SQLWrapper, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import type { Actor } from "../audit/entry.ts";
import { recordAudit } from "../audit/record.ts";
import type { Queryable } from "../db/client.ts";
import { events } from "../db/tables.ts";
import { auditOf } from "./audited.ts";
import type { NewEvent } from "./new-event.ts";

export type EventActor = Actor;

export const SYSTEM_ACTOR: EventActor = { type: "system", id: "", name: "" };

/**
 * Writes what happened, in that order, and of what somebody did the audit entries; `q` is the transaction of the
 * change that it tells of.
 */
export async function recordEvents(q: Queryable, recorded: readonly NewEvent[]): Promise<void> {
  if (recorded.length === 0) return;
  await q
    .insert(events)
    .values(recorded.map(({ subject, ...columns }) => ({ ...columns, resource: { ...subject } })));
  await recordAudit(
    q,
    ...recorded.flatMap((event) => {
      const entry = auditOf(event);
      return entry === null ? [] : [{ ...entry, teamId: event.teamId }];
    }),
  );
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
