// A team as the control plane knows it.

import type { Id } from "../../proto/ids.ts";
import type { TEAM_ROLES, teams, USER_STATUSES } from "../db/tables.ts";

export type TeamRow = typeof teams.$inferSelect;
export type TeamRole = (typeof TEAM_ROLES)[number];

export interface MemberRow {
  readonly userId: Id<"user">;
  readonly name: string;
  readonly email: string;
  readonly status: (typeof USER_STATUSES)[number];
  readonly role: TeamRole;
  readonly joinedAt: Date;
}
