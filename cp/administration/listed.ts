// Accounts and teams as administrators see them.

import type { teams, users } from "../db/tables.ts";

export interface Page {
  /** From 1. */
  readonly page: number;
  readonly perPage: number;
}

type UserRow = typeof users.$inferSelect;

export interface ListedUser
  extends Pick<UserRow, "id" | "email" | "name" | "isAdmin" | "status" | "createdAt"> {
  readonly teamsJoined: number;
  readonly teamsOwned: number;
}

/** What capsules hold of a host: those that have a microVM there, and those at rest. */
export interface HostLoad {
  readonly runningVcpus: number;
  readonly runningMemoryMb: number;
  readonly runningDiskMb: number;
  readonly pausedMemoryMb: number;
  readonly pausedDiskMb: number;
}

export interface ListedTeam {
  readonly team: typeof teams.$inferSelect;
  readonly memberCount: number;
  readonly ownerName: string | null;
  readonly ownerEmail: string | null;
  readonly activeSandboxCount: number;
  readonly runningVcpus: number;
  readonly runningMemoryMb: number;
  readonly channelCount: number;
}
