// Placing what a team asks for within its limits: in the transaction that places it, which holds the team's row
// until it ends. Whoever else places something for the team waits for that, and then counts it; so of any number
// of requests at once, at whatever control planes, none passes a limit, and what dies on the way has placed nothing.
//
// The team's row is the first that such a transaction locks, before a host's or a capsule's.

import type { Id } from "../../proto/ids.ts";
import type { Tx } from "../db/client.ts";
import { AppError, type ErrorCode } from "../errors.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { TEAM_LIMITS, type TeamLimit, type TeamLimits } from "../team-limits.ts";
import type { OwnLimits } from "./limits-and-use.ts";
import { lockOwnLimits, selectCapsuleUse, selectSnapshotUse } from "./queries.ts";

export type Amounts = Partial<Readonly<Record<TeamLimit, number>>>;

/** A team whose row the transaction holds. */
export interface HeldTeam {
  readonly limits: TeamLimits;
  /** What capsules, or snapshots, have of the limits by now; empty where there are none. */
  readonly capsuleUse: () => Promise<Amounts>;
  readonly snapshotUse: () => Promise<Amounts>;
}

const OF_CAPSULES = ["capsules", "vcpus", "memoryMb", "diskMb"] as const;
const OF_SNAPSHOTS = ["snapshots", "snapshotMb"] as const;

const REFUSALS: Partial<Record<TeamLimit, { readonly code: ErrorCode; readonly what: string }>> = {
  capsules: { code: "concurrent_sandbox_limit", what: "capsules that are not at rest" },
  vcpus: { code: "vcpu_limit", what: "processors" },
  memoryMb: { code: "memory_limit", what: "MB of memory" },
  diskMb: { code: "disk_limit", what: "MB of disk" },
  snapshots: { code: "snapshot_limit", what: "snapshots" },
  snapshotMb: { code: "snapshot_storage_limit", what: "MB of snapshots" },
};

/** What the team may have. The platform's own is held to nothing that was not said of it. */
export function effectiveLimits(
  teamId: Id<"team">,
  { own, defaults }: { own: OwnLimits; defaults: TeamLimits },
): TeamLimits {
  const isPlatform = teamId === PLATFORM_TEAM;
  const of = (limit: TeamLimit) => own[limit] ?? (isPlatform ? 0 : defaults[limit]);
  return Object.fromEntries(TEAM_LIMITS.map((limit) => [limit, of(limit)])) as TeamLimits;
}

/** Holds the team until the transaction ends. Throws `no_team` once it is deleted. */
export async function holdTeam(
  tx: Tx,
  { teamId, defaults }: { teamId: Id<"team">; defaults: TeamLimits },
): Promise<HeldTeam> {
  const own = await lockOwnLimits(tx, teamId);
  if (own === undefined) throw new AppError("no_team", "the team was deleted");
  const limits = effectiveLimits(teamId, { own, defaults });
  const isLimited = (some: readonly TeamLimit[]) => some.some((limit) => limits[limit] > 0);
  return {
    limits,
    capsuleUse: async () => (isLimited(OF_CAPSULES) ? await selectCapsuleUse(tx, teamId) : {}),
    snapshotUse: async () => (isLimited(OF_SNAPSHOTS) ? await selectSnapshotUse(tx, teamId) : {}),
  };
}

/** Throws the 402 of the first limit that what is asked for would pass, on top of what is used. */
export function requireRoom(limits: TeamLimits, used: Amounts, asked: Amounts): void {
  for (const limit of TEAM_LIMITS) {
    const refusal = REFUSALS[limit];
    const max = limits[limit];
    const more = asked[limit] ?? 0;
    const has = used[limit] ?? 0;
    if (refusal === undefined || max === 0 || more <= 0 || has + more <= max) continue;
    const details = { limit: max, used: Math.ceil(has), asked: Math.ceil(more) };
    const message = `the team may have ${max} ${refusal.what}, has ${details.used} and asks for ${details.asked} more`;
    throw new AppError(refusal.code, message, { details });
  }
}
