// The record of who changed what, on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId, type Id } from "../../proto/ids.ts";
import { ACTOR_TYPES, AUDIT_SCOPES, AUDIT_STATUSES } from "../db/tables.ts";
import { AppError } from "../errors.ts";
import { parseWholeNumber, wholeNumber } from "../whole-number.ts";
import { ID_LENGTH_MAX, parseId, parseInstant } from "../wire.ts";
import type { AuditPage, AuditRow } from "./entry.ts";

const LIMIT_DEFAULT = 50;
const LIMIT = { minimum: 1, maximum: 200 };
const NAMES_MAX = 20;
const NAME = /^[a-z_]{1,32}$/;

const names = (of: string) =>
  t.Optional(t.String({ maxLength: 1024, description: `Only these ${of}, with commas between.` }));

export const ExportQuery = t.Object({
  resource_type: names("types of resources, like `sandbox` or `api_key`"),
  action: names("actions, like `create`"),
});
export type ExportQuery = Static<typeof ExportQuery>;

export const AuditQuery = t.Composite([
  ExportQuery,
  t.Object({
    before: t.Optional(
      t.String({
        maxLength: 64,
        description: "Older than that: `next_before` of the page before.",
      }),
    ),
    before_id: t.Optional(
      t.String({ maxLength: ID_LENGTH_MAX, description: "`next_before_id` of the page before." }),
    ),
    limit: t.Optional(wholeNumber({ ...LIMIT, description: `Default ${LIMIT_DEFAULT}.` })),
  }),
]);
export type AuditQuery = Static<typeof AuditQuery>;

const AuditLog = Type.Object(
  {
    id: Type.String(),
    actor_type: t.UnionEnum(ACTOR_TYPES),
    actor_id: Type.Optional(Type.String()),
    actor_name: Type.Optional(Type.String({ description: "A user's mail address, a key's name." })),
    resource_type: Type.String(),
    resource_id: Type.Optional(Type.String()),
    action: Type.String(),
    scope: t.UnionEnum(AUDIT_SCOPES, { description: "`admin`: plain members do not see it." }),
    status: t.UnionEnum(AUDIT_STATUSES),
    metadata: Type.Optional(Type.Record(Type.String(), Type.String())),
    ip_address: Type.Optional(
      Type.String({ description: "Where the request came from; for who manages the team." }),
    ),
    request_id: Type.Optional(Type.String({ description: "`X-Request-ID` of its answer." })),
    created_at: Type.String({ format: "date-time" }),
  },
  { $id: "AuditLog" },
);
type AuditLog = Static<typeof AuditLog>;

export const AuditLogs = Type.Object(
  {
    items: Type.Array(AuditLog),
    next_before: Type.Optional(
      Type.String({ format: "date-time", description: "Missing: there is no older one." }),
    ),
    next_before_id: Type.Optional(Type.String()),
  },
  { $id: "AuditLogs" },
);
export type AuditLogs = Static<typeof AuditLogs>;

/** Throws `invalid_request`. */
export function toPageRequest({ before, before_id, limit }: AuditQuery) {
  return {
    before: before === undefined ? undefined : parseInstant(before, "before"),
    beforeId: before_id === undefined ? undefined : parseId("auditLog", before_id, "before_id"),
    limit: limit === undefined ? LIMIT_DEFAULT : parseWholeNumber(limit, "limit", LIMIT),
  };
}

/** The names of a query, be they in one parameter or in several. Throws `invalid_request`. */
export function toWhich(url: string): { resourceTypes: string[]; actions: string[] } {
  const { searchParams } = new URL(url);
  return {
    resourceTypes: namesIn(searchParams, "resource_type"),
    actions: namesIn(searchParams, "action"),
  };
}

function namesIn(query: URLSearchParams, field: string): string[] {
  const all = query.getAll(field).flatMap((text) => text.split(","));
  const given = all.map((name) => name.trim()).filter((name) => name !== "");
  if (given.length <= NAMES_MAX && given.every((name) => NAME.test(name))) return given;
  throw new AppError("invalid_request", `${field}: at most ${NAMES_MAX} names like api_key`);
}

/** Where a request came from is for those who manage the team. */
export function toAuditLog(row: AuditRow, { isManager }: { isManager: boolean }): AuditLog {
  const id: Id<"auditLog"> = row.id;
  return {
    id: encodeId("auditLog", id),
    actor_type: row.actorType,
    ...(row.actorId === null ? {} : { actor_id: row.actorId }),
    ...(row.actorName === "" ? {} : { actor_name: row.actorName }),
    resource_type: row.resourceType,
    ...(row.resourceId === null ? {} : { resource_id: row.resourceId }),
    ...{ action: row.action, scope: row.scope, status: row.status },
    ...(Object.keys(row.metadata).length === 0 ? {} : { metadata: row.metadata }),
    ...(row.ipAddress === null || !isManager ? {} : { ip_address: row.ipAddress }),
    ...(row.requestId === null ? {} : { request_id: row.requestId }),
    created_at: row.createdAt.toISOString(),
  };
}

export function toAuditLogs(page: AuditPage, viewer: { isManager: boolean }): AuditLogs {
  const items = page.rows.map((row) => toAuditLog(row, viewer));
  const last = page.hasMore ? items.at(-1) : undefined;
  if (last === undefined) return { items };
  return { items, next_before: last.created_at, next_before_id: last.id };
}
