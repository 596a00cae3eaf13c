// What a team uses, on the wire.

import { Type } from "@sinclair/typebox";
import { type Static, t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { AppError } from "../errors.ts";
import { parseWholeNumber, wholeNumber } from "../whole-number.ts";
import { ID_LENGTH_MAX, timestamp } from "../wire.ts";
import {
  type CapsuleUsagePage,
  STATS_RANGES,
  type Stats,
  type StatsRange,
  type Usage,
} from "./usage.ts";

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
export function toDates({ from, to }: { from?: string; to?: string }) {
  for (const field of ["from", "to"] as const) {
    const text = { from, to }[field];
    if (text === undefined) continue;
    const at = new Date(text);
    // 30 February would be taken for 2 March.
    if (Number.isNaN(at.getTime()) || at.toISOString().slice(0, 10) !== text) {
      throw new AppError("invalid_request", `${field}: not a date`);
    }
  }
  return { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
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

const USED_CAPSULES_DEFAULT = 50;
const USED_CAPSULES = { minimum: 1, maximum: 200 };

export const UsedCapsulesQuery = t.Object({
  from: UsageQuery.properties.from,
  to: UsageQuery.properties.to,
  limit: t.Optional(
    wholeNumber({
      ...USED_CAPSULES,
      description: `Of one page; ${USED_CAPSULES_DEFAULT} unless it says otherwise.`,
    }),
  ),
  cursor: t.Optional(
    t.String({ maxLength: ID_LENGTH_MAX, description: "`next_cursor` of the page before." }),
  ),
});

/** How many capsules a page has. Throws `invalid_request`. */
export function toPageSize({ limit }: { limit?: string | undefined }): number {
  return limit === undefined
    ? USED_CAPSULES_DEFAULT
    : parseWholeNumber(limit, "limit", USED_CAPSULES);
}

export const UsedCapsules = t.Object({
  from: t.String({ format: "date" }),
  to: t.String({ format: "date" }),
  capsules: t.Array(
    t.Object({
      id: t.String(),
      template: t.Optional(t.String()),
      vcpu_seconds: Type.Number({ description: "Seconds in which it ran, times its processors." }),
      memory_mb_seconds: Type.Number({ description: "The same of its memory." }),
      paused_memory_mb_seconds: Type.Number({
        description: "Seconds in which it was paused, times its memory.",
      }),
      sent_bytes: Type.Integer({
        description:
          "All that has left it, answers of its ports and of the API too, without the last seconds before its end.",
      }),
      disk_used_mb: t.Optional(
        Type.Integer({ description: "What its disk takes, or took when its host last said so." }),
      ),
    }),
  ),
  next_cursor: t.Optional(t.String({ description: "Missing on the last page." })),
});
type UsedCapsules = Static<typeof UsedCapsules>;

export function toUsedCapsules({ from, to, capsules, next }: CapsuleUsagePage): UsedCapsules {
  return {
    ...{ from, to },
    capsules: capsules.map(({ id, template, diskUsedMb, ...used }) => ({
      id: encodeId("capsule", id),
      ...(template === "" ? {} : { template }),
      vcpu_seconds: used.vcpuSec,
      memory_mb_seconds: used.memoryMbSec,
      paused_memory_mb_seconds: used.pausedMemoryMbSec,
      sent_bytes: used.sentBytes,
      ...(diskUsedMb === null ? {} : { disk_used_mb: diskUsedMb }),
    })),
    ...(next === null ? {} : { next_cursor: encodeId("capsule", next) }),
  };
}
