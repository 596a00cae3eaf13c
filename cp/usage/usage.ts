// What capsules of a team hold of the platform, as it is counted and told.

import type { Id } from "../../proto/ids.ts";

export const STATS_RANGES = ["5m", "1h", "6h", "24h", "30d"] as const;
export type StatsRange = (typeof STATS_RANGES)[number];

/** At one time. Capsules at rest count with a share of their memory. */
export interface Holding {
  readonly runningCount: number;
  readonly vcpus: number;
  readonly memoryMb: number;
}

/** The most of a part of a range, which begins there. */
export interface HoldingPart extends Holding {
  readonly beginsAt: Date;
}

export interface Stats {
  readonly range: StatsRange;
  readonly current: Holding;
  /** The most of each in 30 days, not of one time. */
  readonly peaks: Holding;
  /** Oldest first. */
  readonly series: readonly HoldingPart[];
}

export interface DayOfUsage {
  /** `2026-11-29`, of UTC. */
  readonly date: string;
  readonly cpuMinutes: number;
  readonly ramMbMinutes: number;
}

export interface Usage {
  readonly from: string;
  readonly to: string;
  /** Days on which nothing was used are left out. */
  readonly days: readonly DayOfUsage[];
}

/** Dates of UTC, both included. */
export interface TeamDates {
  readonly teamId: Id<"team">;
  readonly from: string;
  readonly to: string;
}

export interface UsedByCapsule {
  readonly id: Id<"capsule">;
  /** Empty when nothing is known of the capsule any more. */
  readonly template: string;
  readonly vcpuSec: number;
  readonly memoryMbSec: number;
  /** All of the memory of a capsule at rest. */
  readonly pausedMemoryMbSec: number;
  /** To the network, as far as its host has told. */
  readonly sentBytes: number;
  /** What its host said last; null until it has. */
  readonly diskUsedMb: number | null;
}

export interface CapsuleUsagePage {
  readonly from: string;
  readonly to: string;
  readonly capsules: readonly UsedByCapsule[];
  /** The last capsule of the page; null when there are no more. */
  readonly next: Id<"capsule"> | null;
}
