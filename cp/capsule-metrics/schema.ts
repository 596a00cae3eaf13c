// What a capsule uses, on the wire.

import { Type } from "@sinclair/typebox";
import { type Static, t } from "elysia";

const METRIC_RANGES = ["5m", "10m", "1h", "2h", "6h", "12h", "24h"] as const;
export type MetricRange = (typeof METRIC_RANGES)[number];
export const METRIC_RANGE_DEFAULT: MetricRange = "10m";

/** The finest range has the most: two a second for ten minutes. */
export const METRIC_POINTS_MAX = 1200;

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

const MetricPoint = t.Object({
  timestamp_unix: Type.Integer({ description: "Of the last sample that the point tells of." }),
  cpu_pct: Type.Number({ description: "Of all the capsule's processors: 0 to 100." }),
  mem_bytes: Type.Integer({ description: "Memory of the host that the capsule holds." }),
  disk_bytes: Type.Integer({ description: "What its disk takes on the host." }),
});
export type MetricPoint = Static<typeof MetricPoint>;

export const CapsuleMetrics = t.Object({
  sandbox_id: t.String(),
  range: t.UnionEnum(METRIC_RANGES),
  points: t.Array(MetricPoint, { maxItems: METRIC_POINTS_MAX, description: "Oldest first." }),
});
export type CapsuleMetrics = Static<typeof CapsuleMetrics>;
