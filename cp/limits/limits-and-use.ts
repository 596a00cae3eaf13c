// What a team may have, and what it has of it.

import type { TeamLimit, TeamLimits } from "../team-limits.ts";

/** Their names for clients. */
export const WIRE_NAMES = {
  capsules: "capsules",
  vcpus: "vcpus",
  memoryMb: "memory_mb",
  diskMb: "disk_mb",
  snapshots: "snapshots",
  snapshotMb: "snapshot_mb",
  requestsPerMinute: "requests_per_minute",
} as const satisfies Record<TeamLimit, string>;

export type OwnLimits = Partial<TeamLimits>;

/** What capsules have of their team's limits. */
export interface CapsuleUse {
  /** Those that are not at rest, whatever they are on their way to. */
  readonly capsules: number;
  readonly vcpus: number;
  /** Of those, and half of those at rest: it is set aside for their return. */
  readonly memoryMb: number;
  /** Of all that there are: what each may come to take. */
  readonly diskMb: number;
}

export interface SnapshotUse {
  /** Those under way, too. */
  readonly snapshots: number;
  /** Not a whole number. */
  readonly snapshotMb: number;
}

export interface LimitsAndUse {
  readonly limits: TeamLimits;
  /** Those that an administrator gave the team. */
  readonly own: OwnLimits;
  readonly used: CapsuleUse & SnapshotUse;
}

/** Null: that of the settings again. */
export type LimitChanges = Partial<Readonly<Record<TeamLimit, number | null>>>;
