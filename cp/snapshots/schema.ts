// Snapshots and other templates on the wire.

import { Type } from "@sinclair/typebox";
import { type Static, t } from "elysia";
import { encodeId, type Id } from "../../proto/ids.ts";
import { TEMPLATE_NAME_PATTERN } from "../capsules/limits.ts";
import { TEMPLATE_TYPES } from "../db/tables.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { isBuiltIn } from "../templates/template.ts";
import { parseWholeNumber, wholeNumber } from "../whole-number.ts";
import { ID_LENGTH_MAX, timestamp } from "../wire.ts";
import {
  PAGE_MAX,
  PER_PAGE_DEFAULT,
  PER_PAGE_MAX,
  SEARCH_LENGTH_MAX,
  TEMPLATES_LISTED_MAX,
} from "./limits.ts";
import type { TemplatePage as FoundPage, ListedTemplate } from "./list.ts";

const newName = t.Optional(
  t.String({
    pattern: TEMPLATE_NAME_PATTERN,
    description: "Default: `template-` and 8 hexadecimal digits.",
  }),
);

export const CreateSnapshot = t.Object({
  sandbox_id: t.String({
    maxLength: ID_LENGTH_MAX,
    description: "The running or paused capsule, which stays as it is.",
  }),
  name: newName,
});
export type CreateSnapshot = Static<typeof CreateSnapshot>;

export const CreatePlatformTemplate = t.Object({ name: newName });

// Unions of literals: Elysia gives an absent UnionEnum its first value.

export const CreateSnapshotQuery = t.Object({
  overwrite: t.Optional(
    t.Union([t.Literal("true"), t.Literal("false")], {
      description: "Whether a snapshot of that name is replaced, once the new one is there.",
    }),
  ),
});

const PAGE = { minimum: 1, maximum: PAGE_MAX };
const PER_PAGE = { minimum: 1, maximum: PER_PAGE_MAX };

export const ListQuery = t.Object({
  type: t.Optional(t.Union([t.Literal("base"), t.Literal("snapshot")])),
  q: t.Optional(
    t.String({
      maxLength: SEARCH_LENGTH_MAX,
      pattern: "^[^\\u0000]*$",
      description: "Part of a template's name or of its team's slug.",
    }),
  ),
  page: t.Optional(wholeNumber({ ...PAGE, description: "From 1." })),
  per_page: t.Optional(wholeNumber({ ...PER_PAGE, description: `Default ${PER_PAGE_DEFAULT}.` })),
});
export type ListQuery = Static<typeof ListQuery>;

export const SnapshotParams = t.Object({ name: t.String({ pattern: TEMPLATE_NAME_PATTERN }) });

export const RenameTemplate = t.Object({
  new_name: t.String({ pattern: TEMPLATE_NAME_PATTERN }),
});

export const ChangeVisibility = t.Object({
  public: Type.Boolean({
    description: "Whether every team sees it and may start capsules from it.",
  }),
});

export const Template = t.Object({
  name: t.String(),
  type: t.UnionEnum(TEMPLATE_TYPES),
  vcpus: Type.Integer(),
  memory_mb: Type.Integer(),
  size_bytes: Type.Integer(),
  created_at: t.String({ format: "date-time" }),
  platform: Type.Boolean({ description: "Whether it is the platform's: every team has it." }),
  protected: Type.Boolean({
    description: "Whether it comes with the platform: nobody can rename or delete it.",
  }),
  public: Type.Boolean({
    description: "Whether other teams may start capsules from it, as `<team_slug>/<name>`.",
  }),
  owned: Type.Boolean({ description: "Whether it is the asking team's own." }),
  team_slug: t.String(),
  metadata: t.Optional(t.Record(t.String(), t.String())),
});
export type Template = Static<typeof Template>;

export const TemplateList = t.Array(Template, { maxItems: TEMPLATES_LISTED_MAX });

export const TemplatePage = t.Object({
  templates: t.Array(Template, { maxItems: PER_PAGE_MAX }),
  total: Type.Integer({ description: "On all pages." }),
  page: Type.Integer(),
  per_page: Type.Integer(),
  total_pages: Type.Integer(),
});
type TemplatePage = Static<typeof TemplatePage>;

/** Whatever team's. */
const AnyTemplate = t.Object({
  name: t.String(),
  type: t.UnionEnum(TEMPLATE_TYPES),
  vcpus: Type.Integer(),
  memory_mb: Type.Integer(),
  size_bytes: Type.Integer(),
  team_id: t.String(),
  team_slug: t.String(),
  public: Type.Boolean(),
  protected: Type.Boolean({
    description: "Whether it comes with the platform: nobody can rename or delete it.",
  }),
  created_at: t.String({ format: "date-time" }),
});
export const AnyTemplateList = t.Array(AnyTemplate);
/** The template as the team sees it. */
export function toTemplate({ template, teamSlug }: ListedTemplate, viewer: Id<"team">): Template {
  return {
    name: template.name,
    type: template.type,
    vcpus: template.vcpus,
    memory_mb: template.memoryMb,
    size_bytes: template.sizeBytes,
    created_at: timestamp(template.createdAt),
    platform: template.teamId === PLATFORM_TEAM,
    protected: isBuiltIn(template),
    public: template.isPublic,
    owned: template.teamId === viewer,
    team_slug: teamSlug,
    ...(Object.keys(template.metadata).length === 0 ? {} : { metadata: template.metadata }),
  };
}

export function isPaged({ q, page, per_page: perPage }: ListQuery): boolean {
  return [q, page, perPage].some((asked) => asked !== undefined);
}

export function toTemplatePage(
  found: FoundPage,
  { query, viewer }: { query: ListQuery; viewer: Id<"team"> },
): TemplatePage {
  const { page, perPage } = toPageRequest(query);
  return {
    templates: found.templates.map((listed) => toTemplate(listed, viewer)),
    total: found.total,
    page,
    per_page: perPage,
    total_pages: Math.ceil(found.total / perPage),
  };
}

export function toPageRequest({ type, q, page, per_page: perPage }: ListQuery) {
  return {
    type,
    text: q ?? "",
    page: page === undefined ? 1 : parseWholeNumber(page, "page", PAGE),
    perPage:
      perPage === undefined ? PER_PAGE_DEFAULT : parseWholeNumber(perPage, "per_page", PER_PAGE),
  };
}

export function toAnyTemplate({ template, teamSlug }: ListedTemplate): Static<typeof AnyTemplate> {
  const { name, type, vcpus, memoryMb, sizeBytes, isPublic } = template;
  return {
    ...{ name, type, vcpus, memory_mb: memoryMb, size_bytes: sizeBytes },
    ...{ team_id: encodeId("team", template.teamId), team_slug: teamSlug },
    ...{ public: isPublic, protected: isBuiltIn(template) },
    created_at: timestamp(template.createdAt),
  };
}
