// A team as the control plane knows it.

import type { TEAM_ROLES, teams } from "../db/tables.ts";

export type TeamRow = typeof teams.$inferSelect;
export type TeamRole = (typeof TEAM_ROLES)[number];
