// Loops: sample what each team's capsules hold, count what they used, and sum up and forget old samples and counts.
//
// Every control plane does them all: what one has counted counts for all.

import type { TeamUsage } from "../usage/service.ts";
import type { Loop } from "./driver.ts";

/** Often enough that no step of ten seconds is left out, if passes are late by as much again. */
const SAMPLE_EVERY_MS = 4000;
/** It finds what is due after a minute, and is how soon a clock that was set is noticed. */
const COUNT_EVERY_MS = 10_000;
const COMPACT_EVERY_MS = 3_600_000;

export function sampleUsageLoop(usage: TeamUsage): Loop {
  return {
    name: "sample-usage",
    everyMs: SAMPLE_EVERY_MS,
    run: async () => ({ sampled: await usage.sample() }),
  };
}

export function countUsageLoop(usage: TeamUsage): Loop {
  return {
    name: "count-usage",
    everyMs: COUNT_EVERY_MS,
    run: async () => ({ counted: await usage.count() }),
  };
}

export function compactUsageLoop(usage: TeamUsage): Loop {
  return {
    name: "compact-usage",
    everyMs: COMPACT_EVERY_MS,
    run: async () => ({ forgotten: await usage.compact() }),
  };
}
