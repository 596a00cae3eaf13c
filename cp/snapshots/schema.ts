// Snapshots and other templates on the wire.

import { Type } from "@sinclair/typebox";
import { type Static, t } from "elysia";
import { TEMPLATE_NAME_PATTERN } from "../capsules/limits.ts";
import { TEMPLATE_TYPES } from "../db/tables.ts";
import { PLATFORM_TEAM, type TemplateRow } from "../templates/template.ts";
import { ID_LENGTH_MAX, timestamp } from "../wire.ts";
import { TEMPLATES_LISTED_MAX } from "./limits.ts";

export const CreateSnapshot = t.Object({
  sandbox_id: t.String({
    maxLength: ID_LENGTH_MAX,
    description: "The running or paused capsule, which stays as it is.",
  }),
  name: t.Optional(
    t.String({
      pattern: TEMPLATE_NAME_PATTERN,
      description: "Default: `template-` and 8 hexadecimal digits.",
    }),
  ),
});
export type CreateSnapshot = Static<typeof CreateSnapshot>;

// Unions of literals: Elysia gives an absent UnionEnum its first value.

export const CreateSnapshotQuery = t.Object({
  overwrite: t.Optional(
    t.Union([t.Literal("true"), t.Literal("false")], {
      description: "Whether a snapshot of that name is replaced, once the new one is there.",
    }),
  ),
});

export const ListQuery = t.Object({
  type: t.Optional(t.Union([t.Literal("base"), t.Literal("snapshot")])),
});

export const SnapshotParams = t.Object({ name: t.String({ pattern: TEMPLATE_NAME_PATTERN }) });

export const Template = t.Object({
  name: t.String(),
  type: t.UnionEnum(TEMPLATE_TYPES),
  vcpus: Type.Integer(),
  memory_mb: Type.Integer(),
  size_bytes: Type.Integer(),
  created_at: t.String({ format: "date-time" }),
  platform: Type.Boolean({ description: "Whether every team has it." }),
  metadata: t.Optional(t.Record(t.String(), t.String())),
});
export type Template = Static<typeof Template>;

export const TemplateList = t.Array(Template, { maxItems: TEMPLATES_LISTED_MAX });

export function toTemplate(row: TemplateRow): Template {
  return {
    name: row.name,
    type: row.type,
    vcpus: row.vcpus,
    memory_mb: row.memoryMb,
    size_bytes: row.sizeBytes,
    created_at: timestamp(row.createdAt),
    platform: row.teamId === PLATFORM_TEAM,
    ...(Object.keys(row.metadata).length === 0 ? {} : { metadata: row.metadata }),
  };
}
