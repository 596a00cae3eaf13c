// Copies what paused capsules used from their hosts, where it would go with the host.

import { Code, ConnectError } from "@connectrpc/connect";
import { METRIC_TIERS } from "../db/tables.ts";
import type { OperationStarter } from "../operations/deps.ts";
import {
  deletePointsOfEnded,
  mergePoints,
  selectUnsaved,
  type Unsaved,
  updateSaved,
} from "./queries.ts";
import { askForPoints } from "./service.ts";

/** Of one pass; the next one takes the others. */
const CAPSULES_MAX = 64;
/** The host has the capsule no more, or as one that never ran: there is nothing to copy. */
const NOTHING: ReadonlySet<Code> = new Set([Code.NotFound, Code.FailedPrecondition]);

/**
 * One pass: copies the points of capsules that were paused since their last copy, and forgets those of
 * capsules that have ended. A host that does not answer is asked again by the next pass.
 */
export async function saveMetrics(
  deps: Pick<OperationStarter, "db" | "agents" | "log">,
  ending: AbortSignal,
): Promise<{ saved: number; failed: number; removed: number }> {
  const counts = { saved: 0, failed: 0, removed: 0 };
  for (const unsaved of await selectUnsaved(deps.db, CAPSULES_MAX)) {
    if (ending.aborted) break;
    try {
      await saveOne(deps, unsaved);
      counts.saved += 1;
    } catch (error) {
      counts.failed += 1;
      deps.log.debug("metrics are not copied yet", { capsule: unsaved.id, error });
    }
  }
  counts.removed = await deletePointsOfEnded(deps.db, CAPSULES_MAX);
  return counts;
}

async function saveOne(
  { db, agents }: Pick<OperationStarter, "db" | "agents">,
  unsaved: Unsaved,
): Promise<void> {
  const agent = agents.at(unsaved.agent);
  const tiers = await Promise.all(
    METRIC_TIERS.map(async (tier) => ({
      tier,
      points: await askForPoints(agent, unsaved.id, tier).catch(noneOfNothing),
    })),
  );
  await db.transaction(async (tx) => {
    for (const { tier, points } of tiers) await mergePoints(tx, { id: unsaved.id, tier, points });
    await updateSaved(tx, unsaved);
  });
}

function noneOfNothing(error: unknown): [] {
  if (NOTHING.has(ConnectError.from(error).code)) return [];
  throw error;
}
