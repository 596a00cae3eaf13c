// What a team uses, on the wire.

import { Type } from "@sinclair/typebox";
import { type Static, t } from "elysia";
import { AppError } from "../errors.ts";
import { timestamp } from "../wire.ts";
import { STATS_RANGES, type Stats, type StatsRange, type Usage } from "./usage.ts";

export const STATS_RANGE_DEFAULT: StatsRange = "1h";

export const StatsQuery = t.Object({
  range: t.Optional(
    t.UnionEnum(STATS_RANGES, {
      // Elysia makes the first one the default otherwise.
      default: STATS_RANGE_DEFAULT,
      description: "How far back the series goes, by default `1h`.",
    }),
  ),
});

const parts = (description: string) =>
  t.Array(Type.Integer(), { description: `${description}: the most of each part.` });

export const CapsuleStats = t.Object({
  range: t.UnionEnum(STATS_RANGES),
  current: t.Object({
    running_count: Type.Integer(),
    vcpus_reserved: Type.Integer(),
    memory_mb_reserved: Type.Integer({ description: "Paused capsules count half." }),
  }),
  peaks: t.Object(
    {
      running_count: Type.Integer(),
      vcpus: Type.Integer(),
      memory_mb: Type.Integer(),
    },
    { description: "The most of each in 30 days." },
  ),
  series: t.Object({
    labels: t.Array(t.String({ format: "date-time" }), {
      description:
        "When the parts begin, which are 3 s long, 30 s of `1h`, 3 minutes of `6h`, 12 minutes of `24h`, 6 hours " +
        "of `30d`.",
    }),
    running: parts("Running capsules"),
    vcpus: parts("Their processors"),
    memory_mb: parts("Memory"),
  }),
});
type CapsuleStats = Static<typeof CapsuleStats>;

export function toCapsuleStats({ range, current, peaks, series }: Stats): CapsuleStats {
  return {
    range,
    current: {
      running_count: current.runningCount,
      vcpus_reserved: current.vcpus,
      memory_mb_reserved: current.memoryMb,
    },
    peaks: { running_count: peaks.runningCount, vcpus: peaks.vcpus, memory_mb: peaks.memoryMb },
    series: {
      labels: series.map(({ beginsAt }) => timestamp(beginsAt)),
      running: series.map(({ runningCount }) => runningCount),
      vcpus: series.map(({ vcpus }) => vcpus),
      memory_mb: series.map(({ memoryMb }) => memoryMb),
    },
  };
}

/** PostgreSQL has no year 0, in which the 30 days before the first ones of year 1 are. */
const DATE = "^[1-9]\\d{3}-\\d{2}-\\d{2}$";
const date = (description: string) => t.Optional(t.String({ pattern: DATE, description }));

export const UsageQuery = t.Object({
  from: date("The first day, of UTC; by default 30 days before the last."),
  to: date("The last day; by default today."),
});

/** The dates; `invalid_request` naming the field of one that no calendar has. */
export function toDates(query: Static<typeof UsageQuery>): { from?: string; to?: string } {
  for (const field of ["from", "to"] as const) {
    const text = query[field];
    if (text === undefined) continue;
    const at = new Date(text);
    // 30 February would be taken for 2 March.
    if (Number.isNaN(at.getTime()) || at.toISOString().slice(0, 10) !== text) {
      throw new AppError("invalid_request", `${field}: not a date`);
    }
  }
  return query;
}

export const CapsuleUsage = t.Object({
  from: t.String({ format: "date" }),
  to: t.String({ format: "date" }),
  points: t.Array(
    t.Object({
      date: t.String({ format: "date" }),
      cpu_minutes: Type.Number({
        description: "Minutes of running capsules, times their processors.",
      }),
      ram_mb_minutes: Type.Number({
        description: "The same of their memory; paused ones count half.",
      }),
    }),
    { description: "Oldest first; days without usage are left out." },
  ),
});
type CapsuleUsage = Static<typeof CapsuleUsage>;

export function toCapsuleUsage({ from, to, days }: Usage): CapsuleUsage {
  return {
    from,
    to,
    points: days.map(({ date, cpuMinutes, ramMbMinutes }) => ({
      date,
      cpu_minutes: cpuMinutes,
      ram_mb_minutes: ramMbMinutes,
    })),
  };
}
