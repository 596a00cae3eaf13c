// What a capsule used at one moment.

export const METRIC_RANGES = ["5m", "10m", "1h", "2h", "6h", "12h", "24h"] as const;
export type MetricRange = (typeof METRIC_RANGES)[number];

/** The finest range has the most: two a second for ten minutes. */
export const METRIC_POINTS_MAX = 1200;

export interface MetricPoint {
  /** Of the last sample that the point tells of. */
  readonly unixSec: number;
  /** Of all the capsule's processors: 0 to 100. */
  readonly cpuPct: number;
  readonly memBytes: number;
  readonly diskBytes: number;
}
