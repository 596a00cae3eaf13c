// Loop: notices hosts that fall silent, and holds the capsules on record against what hosts have.
//
// Every control plane asks every host: each effect is a compare-and-set or an idempotent destroy,
// so doing it twice costs a question and nothing else.

import { hostsToAsk, reconcileHost } from "../monitor/reconcile.ts";
import { markSilentHosts } from "../monitor/silence.ts";
import type { OperationDeps, OperationStarter } from "../operations/deps.ts";
import type { Loop } from "./driver.ts";

export const MONITOR_HOSTS = "monitor-hosts";
/** How long a capsule whose VMM died may still be called running. */
const EVERY_MS = 5000;
/** Hosts asked at the same time. */
const PARALLEL_MAX = 16;

export function monitorHostsLoop(deps: OperationStarter): Loop {
  return {
    name: MONITOR_HOSTS,
    everyMs: EVERY_MS,
    run: (ending) => monitorHosts({ ...deps, ending }),
  };
}

async function monitorHosts(deps: OperationDeps): Promise<Record<string, number>> {
  const silent = await markSilentHosts(deps);
  const counts = { silent, lost: 0, paused: 0, restored: 0, destroyed: 0 };
  const hosts = await hostsToAsk(deps);
  const workers = Array.from({ length: Math.min(PARALLEL_MAX, hosts.length) }, async () => {
    for (let host = hosts.pop(); host !== undefined && !deps.ending.aborted; host = hosts.pop()) {
      try {
        const { lost, paused, restored, destroyed } = await reconcileHost(deps, host);
        counts.lost += lost;
        counts.paused += paused;
        counts.restored += restored;
        counts.destroyed += destroyed;
      } catch (error) {
        // Its heartbeats decide whether it is gone; the next pass asks again.
        deps.log.debug("host does not answer", { host: host.id, error });
      }
    }
  });
  await Promise.all(workers);
  return counts;
}
