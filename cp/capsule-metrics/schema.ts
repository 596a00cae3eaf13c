// What a capsule uses, on the wire.

import { Type } from "@sinclair/typebox";
import { type Static, t } from "elysia";
import { encodeId, type Id } from "../../proto/ids.ts";
import {
  METRIC_POINTS_MAX,
  METRIC_RANGES,
  type MetricPoint,
  type MetricRange,
} from "./metric-point.ts";

export const METRIC_RANGE_DEFAULT: MetricRange = "10m";

export const MetricQuery = t.Object({
  range: t.Optional(
    t.UnionEnum(METRIC_RANGES, {
      // Elysia makes the first one the default otherwise.
      default: METRIC_RANGE_DEFAULT,
      description:
        "How far back, by default `10m`. Points are 0.5 s apart, from `1h` on 30 s, from `6h` on 5 minutes.",
    }),
  ),
});

const Point = t.Object({
  timestamp_unix: Type.Integer({ description: "Of the last sample that the point tells of." }),
  cpu_pct: Type.Number({ description: "Of all the capsule's processors: 0 to 100." }),
  mem_bytes: Type.Integer({ description: "Memory of the host that the capsule holds." }),
  disk_bytes: Type.Integer({ description: "What its disk takes on the host." }),
});

export const CapsuleMetrics = t.Object({
  sandbox_id: t.String(),
  range: t.UnionEnum(METRIC_RANGES),
  points: t.Array(Point, { maxItems: METRIC_POINTS_MAX, description: "Oldest first." }),
});
type CapsuleMetrics = Static<typeof CapsuleMetrics>;

export function toCapsuleMetrics(
  id: Id<"capsule">,
  range: MetricRange,
  points: readonly MetricPoint[],
): CapsuleMetrics {
  return {
    sandbox_id: encodeId("capsule", id),
    range,
    points: points.map(({ unixSec, cpuPct, memBytes, diskBytes }) => ({
      timestamp_unix: unixSec,
      cpu_pct: cpuPct,
      mem_bytes: memBytes,
      disk_bytes: diskBytes,
    })),
  };
}
