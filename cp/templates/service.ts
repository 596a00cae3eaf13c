// What capsules start from.

import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { AppError } from "../errors.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { selectHostsOfTemplate, selectTemplateBySlug, selectTemplatesByName } from "./queries.ts";
import { DEFAULT_ALIAS, PLATFORM_SLUG, type TemplateRow } from "./template.ts";

export interface TemplateLookup {
  readonly teamId: Id<"team">;
  /** As the client wrote it, if it did: a name, or a team's slug, a slash and a name. */
  readonly reference: string | undefined;
  readonly defaultName: string;
}

/** A template, and what the team that looked for it calls it by. */
export type FoundTemplate = TemplateRow & { readonly reference: string };

/**
 * The template that the team means: by a name its own or the platform's, with a slug that team's if it
 * is public, its own or the platform's. No reference and the old name `minimal` mean the default.
 * Throws `not_found` repeating the reference: what is missing and what is not to be seen look the same.
 */
export async function findTemplate(q: Queryable, lookup: TemplateLookup): Promise<FoundTemplate> {
  const { teamId, defaultName, reference = DEFAULT_ALIAS } = lookup;
  const slash = reference.indexOf("/");
  const slug = slash === -1 ? null : reference.slice(0, slash);
  const asked = reference.slice(slash + 1);
  const isDefault = asked === DEFAULT_ALIAS && (slug ?? PLATFORM_SLUG) === PLATFORM_SLUG;
  const name = isDefault ? defaultName : asked;
  const teamIds = [teamId, PLATFORM_TEAM];
  const template =
    slug === null
      ? await findByName(q, { name, teamIds })
      : await selectTemplateBySlug(q, { slug, name, teamIds });
  if (template === undefined) throw templateNotFound(slug === null ? name : reference);
  // A name alone would be another template to this team.
  const isForeign = !teamIds.includes(template.teamId);
  return { ...template, reference: isForeign ? reference : template.name };
}

export function templateNotFound(reference: string): AppError {
  const reason = "template_not_found";
  return new AppError("not_found", `template "${reference}" not found`, { reason });
}

async function findByName(
  q: Queryable,
  which: { name: string; teamIds: readonly Id<"team">[] },
): Promise<TemplateRow | undefined> {
  const found = await selectTemplatesByName(q, which);
  // The database keeps a name from being both; were it so, everybody's template is meant.
  return found.find((row) => row.teamId === PLATFORM_TEAM) ?? found[0];
}

/** Every template of that name that belongs to one of the teams. */
export async function templatesNamed(
  q: Queryable,
  which: { name: string; teamIds: readonly Id<"team">[] },
): Promise<TemplateRow[]> {
  return await selectTemplatesByName(q, which);
}

/** What keeps the team from having another template of that name: one of the platform's would be everybody's. */
export async function templatesInTheWay(
  q: Queryable,
  { teamId, name }: { teamId: Id<"team">; name: string },
): Promise<TemplateRow[]> {
  if (teamId === PLATFORM_TEAM) return await selectTemplatesByName(q, { name });
  return await selectTemplatesByName(q, { name, teamIds: [teamId, PLATFORM_TEAM] });
}

/** The hosts that have the files of a template that holds memory; base templates are on all. */
export async function hostsOfTemplate(
  q: Queryable,
  templateId: string,
): Promise<ReadonlySet<Id<"host">>> {
  return new Set(await selectHostsOfTemplate(q, templateId));
}
