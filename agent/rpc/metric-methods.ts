// The method of the service that tells what a capsule uses. Looking is no activity: a page that shows
// it must not keep the capsule from being paused.

import type { ServiceImpl } from "@connectrpc/connect";
import type { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import type { VisibleStatus } from "../capsules/capsule-view.ts";
import type { Capsules } from "../capsules/capsules.ts";
import { invalidField } from "../errors.ts";
import type { Log } from "../log.ts";
import type { CapsuleMetrics } from "../metrics/capsule-metrics.ts";
import { isMetricRange, METRIC_RANGES, type MetricRange } from "../metrics/metric-history.ts";
import type { Sample } from "../metrics/sample-ring.ts";
import { parseCapsuleId } from "./requests.ts";
import { toConnectError } from "./rpc-errors.ts";

/** A capsule at rest has what it used before. */
const MEASURED: ReadonlySet<VisibleStatus> = new Set(["running", "pausing", "paused", "resuming"]);

export interface MetricDeps {
  readonly capsules: Capsules;
  readonly capsuleMetrics: CapsuleMetrics;
  readonly log: Log;
}

/** Throws ConnectErrors only. */
export function metricMethods({
  capsules,
  capsuleMetrics,
  log,
}: MetricDeps): Pick<ServiceImpl<typeof HostAgentService>, "getSandboxMetrics"> {
  return {
    getSandboxMetrics: ({ sandboxId, range }) => {
      try {
        const id = parseCapsuleId(sandboxId);
        const asked = parseRange(range);
        const view = capsules.list().find(({ spec }) => spec.id === id);
        if (view === undefined || !MEASURED.has(view.status)) capsules.assertRunning(id);
        return { points: capsuleMetrics.within(id, asked).map(toPoint) };
      } catch (error) {
        throw toConnectError(error, "GetSandboxMetrics", log);
      }
    },
  };
}

function parseRange(text: string): MetricRange {
  if (isMetricRange(text)) return text;
  throw invalidField("range", `must be one of ${METRIC_RANGES.join(", ")}`);
}

function toPoint({ atMs, cpuPercent, memoryBytes, diskBytes }: Sample) {
  return {
    timestampUnix: BigInt(Math.floor(atMs / 1000)),
    cpuPct: cpuPercent,
    memBytes: BigInt(memoryBytes),
    diskBytes: BigInt(diskBytes),
  };
}
