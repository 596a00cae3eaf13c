// What the owner of a template changes about it: its name, and who sees it. Capsules know their
// template by its id, so neither concerns those that there are, nor those that are being started.

import type { Id } from "../../proto/ids.ts";
import type { Db, Tx } from "../db/client.ts";
import { AppError } from "../errors.ts";
import { type EventActor, recordEvents } from "../events/outbox.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { templateNotFound, templatesInTheWay, templatesNamed } from "../templates/service.ts";
import { DEFAULT_ALIAS, isBuiltIn, isReserved } from "../templates/template.ts";
import { templateEvent } from "./events.ts";
import { isNameBeingMade, isUniqueViolation, updateName, updateVisibility } from "./queries.ts";

interface Change {
  readonly teamId: Id<"team">;
  readonly name: string;
  readonly actor: EventActor;
}

/** Shows the team's template to all teams, or to no other one. Throws `not_found`. */
export async function changeVisibility(
  db: Db,
  { isPublic, ...change }: Change & { readonly isPublic: boolean },
): Promise<void> {
  await db.transaction(async (tx) => {
    const changed = await updateVisibility(tx, { ...change, isPublic });
    if (changed === "missing") throw templateNotFound(change.name);
    if (changed === "unchanged") return;
    const type = isPublic ? "template.publish" : "template.unpublish";
    await recordEvents(tx, [templateEvent(type, change)]);
  });
}

/**
 * Gives the team's template another name; other teams, who know it by the old one, do not see it any
 * more. Throws `not_found`, `forbidden`, `name_reserved` and `template_name_taken`.
 */
export async function renameTemplate(
  db: Db,
  { newName, ...change }: Change & { readonly newName: string },
): Promise<void> {
  const { teamId, name } = change;
  try {
    await db.transaction(async (tx) => {
      const own = await templatesNamed(tx, { name, teamIds: [teamId] });
      const [template] = own;
      if (template === undefined) throw await notOwned(tx, name);
      if (isBuiltIn(template)) throw comesWithPlatform(name);
      if (newName === name) return;
      await requireFree(tx, { teamId, name: newName });
      if (!(await updateName(tx, { teamId, name, newName }))) throw templateNotFound(name);
      await recordEvents(tx, [templateEvent("template.rename", change, { new_name: newName })]);
    });
  } catch (error) {
    throw isUniqueViolation(error) ? nameTaken(newName, error) : error;
  }
}

/** Why a team cannot change or delete what it calls by this name. */
export async function notOwned(tx: Tx, name: string): Promise<AppError> {
  const [platforms] = await templatesNamed(tx, { name, teamIds: [PLATFORM_TEAM] });
  if (platforms === undefined) return templateNotFound(name);
  const reason = "template_protected";
  return new AppError("forbidden", `template "${name}" belongs to the platform`, { reason });
}

/** Why nobody can change or delete it. */
export function comesWithPlatform(name: string): AppError {
  const reason = "template_protected";
  return new AppError("forbidden", `template "${name}" comes with the platform`, { reason });
}

async function requireFree(
  tx: Tx,
  { teamId, name }: { teamId: Id<"team">; name: string },
): Promise<void> {
  const named = await templatesInTheWay(tx, { teamId, name });
  if (name === DEFAULT_ALIAS || named.some((row) => isReserved(row, teamId))) {
    throw new AppError("name_reserved", `new_name: "${name}" is a template of the platform`);
  }
  if (named.length > 0 || (await isNameBeingMade(tx, { teamId, name }))) throw nameTaken(name);
}

function nameTaken(name: string, cause?: unknown): AppError {
  const message = `new_name: the template "${name}" exists already, or is being made`;
  return new AppError("template_name_taken", message, { cause });
}
