// What of the platform a team may be held to, by their names in the database and in settings.

/** In the order in which they are looked at, the contract's first. */
export const TEAM_LIMITS = [
  "capsules",
  "vcpus",
  "memoryMb",
  "diskMb",
  "snapshots",
  "snapshotMb",
  "requestsPerMinute",
] as const;

export type TeamLimit = (typeof TEAM_LIMITS)[number];

/** The most of each; 0: as much as there is. */
export type TeamLimits = Readonly<Record<TeamLimit, number>>;

/** What fits a 32-bit integer. */
export const TEAM_LIMIT_MAX = 2_147_483_647;
