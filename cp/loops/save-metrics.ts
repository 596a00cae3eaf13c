// Loop: copies what paused capsules used from their hosts, and forgets it with the capsule.
//
// Every control plane does it: a copy made twice adds nothing.

import type { CapsuleDeps } from "../capsules/deps.ts";
import { saveMetrics } from "../capsules/save-metrics.ts";
import type { Loop } from "./driver.ts";

/** A host that is lost sooner after a pause takes the metrics with it. */
const EVERY_MS = 5000;

export function saveMetricsLoop(deps: Pick<CapsuleDeps, "db" | "agents" | "log">): Loop {
  return {
    name: "save-metrics",
    everyMs: EVERY_MS,
    run: async (ending) => await saveMetrics(deps, ending),
  };
}
