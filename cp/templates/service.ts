// What capsules start from.

import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { AppError } from "../errors.ts";
import { selectHostsOfTemplate, selectTemplatesByName } from "./queries.ts";
import { DEFAULT_ALIAS, PLATFORM_TEAM, type TemplateRow } from "./template.ts";

export interface TemplateLookup {
  readonly teamId: Id<"team">;
  /** As the client wrote it, if it did. */
  readonly name: string | undefined;
  readonly defaultName: string;
}

/**
 * The template that the team means: its own or the platform's. No name and the old name `minimal`
 * mean the default. Throws `not_found` naming it.
 */
export async function findTemplate(q: Queryable, lookup: TemplateLookup): Promise<TemplateRow> {
  const { teamId, defaultName } = lookup;

  const asked = lookup.name ?? DEFAULT_ALIAS;
  const name = asked === DEFAULT_ALIAS ? defaultName : asked;
  const teamIds = [teamId, PLATFORM_TEAM];
  const found = await selectTemplatesByName(q, { name, teamIds });
  // The database keeps a name from being both; were it so, everybody's template is meant.
  const template = found.find((row) => row.teamId === PLATFORM_TEAM) ?? found[0];
  if (template === undefined)
    throw new AppError("not_found", `template "${name}" not found`, {
      reason: "template_not_found",
    });
  return template;
}

/** Every template of that name that belongs to one of the teams. */
export async function templatesNamed(
  q: Queryable,
  which: { name: string; teamIds: readonly Id<"team">[] },
): Promise<TemplateRow[]> {
  return await selectTemplatesByName(q, which);
}

/** The hosts that have the files of a template that holds memory; base templates are on all. */
export async function hostsOfTemplate(
  q: Queryable,
  templateId: string,
): Promise<ReadonlySet<Id<"host">>> {
  return new Set(await selectHostsOfTemplate(q, templateId));
}
