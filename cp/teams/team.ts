// A team as the control plane knows it.

import type { Id } from "../../proto/ids.ts";
import type { INVITED_ROLES, TEAM_ROLES, teams, USER_STATUSES } from "../db/tables.ts";

export type TeamRow = typeof teams.$inferSelect;
export type TeamRole = (typeof TEAM_ROLES)[number];

/** Teams are for people to keep apart; more than this is a program that ran away. */
export const OWNED_TEAMS_MAX = 100;

export interface MemberRow {
  readonly userId: Id<"user">;
  readonly name: string;
  readonly email: string;
  readonly status: (typeof USER_STATUSES)[number];
  readonly role: TeamRole;
  readonly joinedAt: Date;
}

export type InvitedRole = (typeof INVITED_ROLES)[number];

export interface InvitationRow {
  readonly id: Id<"invitation">;
  readonly email: string;
  readonly role: InvitedRole;
  /** The address of whoever sent it. */
  readonly invitedBy: string;
  readonly createdAt: Date;
  readonly expiresAt: Date;
}
