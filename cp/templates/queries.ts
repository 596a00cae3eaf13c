// SQL of templates.

import { and, eq, inArray } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { templateHosts, templates } from "../db/tables.ts";
import type { TemplateRow } from "./template.ts";

/** Templates of that name that belong to one of the teams. */
export async function selectTemplatesByName(
  q: Queryable,
  { name, teamIds }: { name: string; teamIds: readonly Id<"team">[] },
): Promise<TemplateRow[]> {
  return await q
    .select()
    .from(templates)
    .where(and(eq(templates.name, name), inArray(templates.teamId, teamIds)));
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
