// SQL of templates.

import { and, eq, inArray, isNull, or } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { teams, templateHosts, templates } from "../db/tables.ts";
import type { TemplateRow } from "./template.ts";

/** Templates of that name that belong to one of the teams, or to any. */
export async function selectTemplatesByName(
  q: Queryable,
  { name, teamIds }: { name: string; teamIds?: readonly Id<"team">[] },
): Promise<TemplateRow[]> {
  const isTheirs = teamIds === undefined ? undefined : inArray(templates.teamId, teamIds);
  return await q
    .select()
    .from(templates)
    .where(and(eq(templates.name, name), isTheirs));
}

/** The template of the team with that slug, if it is public or belongs to one of the teams. */
export async function selectTemplateBySlug(
  q: Queryable,
  { slug, name, teamIds }: { slug: string; name: string; teamIds: readonly Id<"team">[] },
): Promise<TemplateRow | undefined> {
  const [found] = await q
    .select({ template: templates })
    .from(templates)
    .innerJoin(teams, eq(teams.id, templates.teamId))
    .where(
      and(
        eq(teams.slug, slug),
        isNull(teams.deletedAt),
        eq(templates.name, name),
        or(eq(templates.isPublic, true), inArray(templates.teamId, teamIds)),
      ),
    );
  return found?.template;
}

/** Where the files of the template are. */
export async function selectHostsOfTemplate(
  q: Queryable,
  templateId: string,
): Promise<Id<"host">[]> {
  const rows = await q
    .select({ hostId: templateHosts.hostId })
    .from(templateHosts)
    .where(eq(templateHosts.templateId, templateId));
  return rows.map(({ hostId }) => hostId);
}
