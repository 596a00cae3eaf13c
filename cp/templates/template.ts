// A template as the control plane knows it.

import type { Id } from "../../proto/ids.ts";
import type { templates } from "../db/tables.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";

export type TemplateRow = typeof templates.$inferSelect;
export type TemplateType = TemplateRow["type"];

/** Its slug: `wrenn/<name>` is a template of the platform and of nobody else. */
export const PLATFORM_SLUG = "wrenn";
/** The images that come with the platform have ids up to this one. */
const BUILT_IN_ID_MAX = 1024;

/** One that nobody may rename or delete. */
export function isBuiltIn({ id, teamId }: TemplateRow): boolean {
  return teamId === PLATFORM_TEAM && BigInt(`0x${id.replaceAll("-", "")}`) <= BUILT_IN_ID_MAX;
}

/** Whether the team can't have the template's name: one of the platform is everybody's. */
export function isReserved({ teamId }: TemplateRow, toTeam: Id<"team">): boolean {
  return teamId === PLATFORM_TEAM && toTeam !== PLATFORM_TEAM;
}

/** The name that the first platform's only template had; it means the default one. */
export const DEFAULT_ALIAS = "minimal";
