// Writing down who changed what, in the transaction that changes it. Where a request asked for the change, its
// id and its client's address are told without anybody handing them on.

import { type SQL, type SQLWrapper, sql } from "drizzle-orm";
import { encodeId, type Id, newId } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { auditLogs } from "../db/tables.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { requestOrigin } from "../request-origin.ts";
import type { Actor, AuditEntry } from "./entry.ts";
import { insertAuditLogs } from "./queries.ts";

/** The actor that a signed-in person is. */
export function personAsActor({ id, email }: { id: Id<"user">; email: string }): Actor {
  return { type: "user", id: encodeId("user", id), name: email };
}

/** What a person did to an account, theirs unless it says whose. */
export function accountEntry(
  by: { id: Id<"user">; email: string },
  action: string,
  of: Id<"user"> = by.id,
) {
  const resource = { type: "user", id: encodeId("user", of) };
  const actor = personAsActor(by);
  return {
    teamId: PLATFORM_TEAM,
    actor,
    resource,
    action,
    scope: "admin",
    status: "info",
  } as const;
}

/** `q` is the transaction of the change. */
export async function recordAudit(q: Queryable, ...entries: readonly AuditEntry[]): Promise<void> {
  if (entries.length === 0) return;
  await insertAuditLogs(q, entries.map(toColumns));
}

/**
 * The insertion of an entry about each row of a common table expression, in the team that the row says: a part of
 * the statement that makes the change.
 */
export function auditOfEach(
  rows: SQLWrapper,
  { teamId, ...entry }: Omit<AuditEntry, "teamId"> & { readonly teamId: SQLWrapper },
): SQL {
  const columns = toColumns(entry);
  const metadata = sql`${sql.param(columns.metadata, auditLogs.metadata)}::jsonb`;
  return sql`
    insert into ${auditLogs} (id, team_id, actor_type, actor_id, actor_name, resource_type, resource_id,
      action, scope, status, metadata, ip_address, request_id)
    select ${columns.id}::uuid, ${teamId}, ${columns.actorType}, ${columns.actorId}, ${columns.actorName},
      ${columns.resourceType}, ${columns.resourceId}, ${columns.action}, ${columns.scope},
      ${columns.status}, ${metadata}, ${columns.ipAddress}, ${columns.requestId}
    from ${rows}`;
}

function toColumns<Entry extends Omit<AuditEntry, "teamId">>({ actor, resource, ...entry }: Entry) {
  const origin = requestOrigin();
  return {
    ...({ scope: "team", status: "success", metadata: {} } as const),
    ...entry,
    id: newId("auditLog"),
    actorType: actor.type,
    actorId: actor.id === "" ? null : actor.id,
    actorName: actor.name,
    resourceType: resource.type,
    resourceId: resource.id,
    ipAddress: origin?.address ?? null,
    requestId: origin?.requestId ?? null,
  };
}
