// Loops: count what each team's capsules hold, and keep of old counts the most of each hour.
//
// Every control plane does both: what one has counted counts for all.

import type { TeamUsage } from "../usage/service.ts";
import type { Loop } from "./driver.ts";

/** Often enough that no step of ten seconds is left out, if passes are late by as much again. */
const SAMPLE_EVERY_MS = 4000;
const COMPACT_EVERY_MS = 3_600_000;

export function sampleUsageLoop(usage: TeamUsage): Loop {
  return {
    name: "sample-usage",
    everyMs: SAMPLE_EVERY_MS,
    run: async () => ({ sampled: await usage.sample() }),
  };
}

export function compactUsageLoop(usage: TeamUsage): Loop {
  return {
    name: "compact-usage",
    everyMs: COMPACT_EVERY_MS,
    run: async () => ({ forgotten: await usage.compact() }),
  };
}
