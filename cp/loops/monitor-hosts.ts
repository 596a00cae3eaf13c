// Loop: notices hosts that fall silent, and holds the capsules on record against what hosts have.
//
// Every control plane asks every host: each effect is a compare-and-set or an idempotent destroy,
// so doing it twice costs a question and nothing else.

import { hostsToAsk, NOTHING, reconcileHost } from "../monitor/reconcile.ts";
import { markSilentHosts } from "../monitor/silence.ts";
import type { UnknownPolicy } from "../monitor/unknown.ts";
import type { OperationDeps, OperationStarter } from "../operations/deps.ts";
import type { Loop } from "./driver.ts";

export const MONITOR_HOSTS = "monitor-hosts";
/** How long a capsule whose VMM died may still be called running. */
const EVERY_MS = 5000;
/** Hosts asked at the same time. */
const PARALLEL_MAX = 16;

export function monitorHostsLoop(deps: OperationStarter, policy: UnknownPolicy): Loop {
  return {
    name: MONITOR_HOSTS,
    everyMs: EVERY_MS,
    run: (ending) => monitorHosts({ ...deps, ending }, policy),
  };
}

async function monitorHosts(
  deps: OperationDeps,
  policy: UnknownPolicy,
): Promise<Record<string, number>> {
  const silent = await markSilentHosts(deps);
  const counts: Record<string, number> = { silent, ...NOTHING };
  const hosts = await hostsToAsk(deps);
  const workers = Array.from({ length: Math.min(PARALLEL_MAX, hosts.length) }, async () => {
    for (let host = hosts.pop(); host !== undefined && !deps.ending.aborted; host = hosts.pop()) {
      try {
        const ofHost = await reconcileHost(deps, host, policy);
        for (const [name, count] of Object.entries(ofHost)) {
          counts[name] = (counts[name] ?? 0) + count;
        }
      } catch (error) {
        // Its heartbeats decide whether it is gone; the next pass asks again.
        deps.log.debug("host does not answer", { host: host.id, error });
      }
    }
  });
  await Promise.all(workers);
  return counts;
}
