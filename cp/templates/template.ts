// A template as the control plane knows it.

import { idFromUuid } from "../../proto/ids.ts";
import type { templates } from "../db/tables.ts";

export type TemplateRow = typeof templates.$inferSelect;
export type TemplateType = TemplateRow["type"];

/** Owner of the templates that every team sees. */
export const PLATFORM_TEAM = idFromUuid("team", "00000000-0000-0000-0000-000000000000");

/** The name that the first platform's only template had; it means the default one. */
export const DEFAULT_ALIAS = "minimal";
