// Which templates a team sees, and in which order.

import { and, count, desc, eq, inArray, isNull, or, type SQL, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { teams, templates } from "../db/tables.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import type { TemplateRow, TemplateType } from "../templates/template.ts";

/** A template with its team's slug. */
export interface ListedTemplate {
  readonly template: TemplateRow;
  readonly teamSlug: string;
}

export interface TemplatePage {
  readonly templates: readonly ListedTemplate[];
  /** On all pages. */
  readonly total: number;
}

export interface PageRequest {
  readonly teamId: Id<"team">;
  readonly type: TemplateType | undefined;
  /** Part of a name or of a slug, in whatever case; empty for all. */
  readonly text: string;
  /** From 1. */
  readonly page: number;
  readonly perPage: number;
}

/** The team's templates and the platform's, newest first. */
export async function selectOwnTemplates(
  q: Queryable,
  { teamId, type, limit }: { teamId: Id<"team">; type: TemplateType | undefined; limit: number },
): Promise<ListedTemplate[]> {
  return await selectListed(q)
    .where(and(inArray(templates.teamId, [teamId, PLATFORM_TEAM]), ofType(type)))
    .orderBy(desc(templates.createdAt), desc(templates.id))
    .limit(limit);
}

/** The team's templates, the platform's, and what other teams made public: in that order, newest first. */
export async function selectTemplatePage(
  q: Queryable,
  request: PageRequest,
): Promise<TemplatePage> {
  const { teamId, type, text, page, perPage } = request;
  const seen = and(isVisible(teamId), ofType(type), hasText(text));
  const rank = sql`case ${templates.teamId} when ${teamId}::uuid then 0 when ${PLATFORM_TEAM}::uuid then 1 else 2 end`;
  const [rows, [counted]] = await Promise.all([
    selectListed(q)
      .where(seen)
      .orderBy(rank, desc(templates.createdAt), desc(templates.id))
      .limit(perPage)
      .offset((page - 1) * perPage),
    q
      .select({ total: count() })
      .from(templates)
      .innerJoin(teams, eq(teams.id, templates.teamId))
      .where(seen),
  ]);
  return { templates: rows, total: counted?.total ?? 0 };
}

/** Every team's, newest first; of teams that were deleted what is not removed yet, too. */
export async function selectAnyTemplates(
  q: Queryable,
  { page, perPage }: Pick<PageRequest, "page" | "perPage">,
): Promise<TemplatePage> {
  const [rows, [counted]] = await Promise.all([
    selectListed(q)
      .orderBy(desc(templates.createdAt), desc(templates.id))
      .limit(perPage)
      .offset((page - 1) * perPage),
    q.select({ total: count() }).from(templates),
  ]);
  return { templates: rows, total: counted?.total ?? 0 };
}

export async function selectSlug(q: Queryable, teamId: Id<"team">): Promise<string> {
  const [team] = await q.select({ slug: teams.slug }).from(teams).where(eq(teams.id, teamId));
  return team?.slug ?? "";
}

function selectListed(q: Queryable) {
  return q
    .select({ template: templates, teamSlug: teams.slug })
    .from(templates)
    .innerJoin(teams, eq(teams.id, templates.teamId))
    .$dynamic();
}

function isVisible(teamId: Id<"team">): SQL | undefined {
  return or(
    inArray(templates.teamId, [teamId, PLATFORM_TEAM]),
    and(eq(templates.isPublic, true), isNull(teams.deletedAt)),
  );
}

function ofType(type: TemplateType | undefined): SQL | undefined {
  return type === undefined ? undefined : eq(templates.type, type);
}

/** What is a wildcard to LIKE is a character like any other to the client. */
function hasText(text: string): SQL | undefined {
  if (text === "") return undefined;
  const pattern = `%${text.replaceAll(/[\\%_]/g, "\\$&")}%`;
  return sql`(${templates.name} ilike ${pattern} or ${teams.slug} ilike ${pattern})`;
}
