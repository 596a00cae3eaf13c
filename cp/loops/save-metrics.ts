// Loop: copies what paused capsules used from their hosts, and forgets it with the capsule.
//
// Every control plane does it: a copy made twice adds nothing.

import { saveMetrics } from "../capsule-metrics/save-metrics.ts";
import type { OperationStarter } from "../operations/deps.ts";
import type { Loop } from "./driver.ts";

/** A host that is lost sooner after a pause takes the metrics with it. */
const EVERY_MS = 5000;

export function saveMetricsLoop(deps: Pick<OperationStarter, "db" | "agents" | "log">): Loop {
  return {
    name: "save-metrics",
    everyMs: EVERY_MS,
    run: async (ending) => await saveMetrics(deps, ending),
  };
}
