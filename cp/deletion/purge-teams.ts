// Removing what deleted teams own. The team's row says when that is looked after next, until nothing is left; each
// step is begun in the record before a host is asked, as if the team had asked for it, and what a host does not
// answer is settled as that would be. So a pass that dies, or meets another one, leaves nothing to undo: the next
// one finds what is left.

import type { Id } from "../../proto/ids.ts";
import type { CapsuleDeps } from "../capsules/deps.ts";
import { destroyCapsule } from "../capsules/destroy.ts";
import { AppError } from "../errors.ts";
import { SYSTEM_ACTOR } from "../events/outbox.ts";
import { type SettleCounts, settleClaimed } from "../operations/settle-claimed.ts";
import type { SnapshotDeps } from "../snapshots/deps.ts";
import { deleteSnapshot } from "../snapshots/remove.ts";
import {
  claimTeamsToPurge,
  deleteMetricPoints,
  deleteRestOfTeam,
  hasAnythingOnHosts,
  selectCapsulesToDestroy,
  selectTemplateNames,
  updatePurgeAt,
} from "./queries.ts";

/** What one pass takes on, and of one team at the same time. */
const TEAMS_BATCH = 8;
const CAPSULES_BATCH = 16;
const TEMPLATES_BATCH = 8;
/** Longer than a pass over one team can take. */
const LEASE_SEC = 300;
/** When it is looked whether the hosts have done what they were asked for. */
const AGAIN_SEC = 5;

export type PurgeDeps = CapsuleDeps & SnapshotDeps;

/** One pass over at most a batch of teams. */
export async function purgeTeams(deps: PurgeDeps): Promise<SettleCounts> {
  const claim = { leaseSec: LEASE_SEC, limit: TEAMS_BATCH };
  const claimed = await deps.db.transaction(async (tx) => await claimTeamsToPurge(tx, claim));
  return await settleClaimed(claimed, {
    settle: (id) => purgeTeam(deps, id),
    updateDeadline: (id, afterSec) => updatePurgeAt(deps.db, id, afterSec),
  });
}

/** Whether nothing is left. */
async function purgeTeam(deps: PurgeDeps, id: Id<"team">): Promise<boolean> {
  const isMore = (await destroyCapsules(deps, id)) || (await deleteTemplates(deps, id));
  if (isMore) {
    await updatePurgeAt(deps.db, id, 0);
    return false;
  }
  if (await hasAnythingOnHosts(deps.db, id)) {
    await updatePurgeAt(deps.db, id, AGAIN_SEC);
    return false;
  }
  while (await deleteMetricPoints(deps.db, id));
  await deps.db.transaction(async (tx) => await deleteRestOfTeam(tx, id));
  return true;
}

/** Whether there may be more than this pass took on. */
async function destroyCapsules(deps: PurgeDeps, teamId: Id<"team">): Promise<boolean> {
  const rows = await selectCapsulesToDestroy(deps.db, teamId, CAPSULES_BATCH);
  await Promise.all(
    rows.map(async (row) => await (await destroyCapsule(deps, row, SYSTEM_ACTOR)).done),
  );
  return rows.length === CAPSULES_BATCH;
}

async function deleteTemplates(deps: PurgeDeps, teamId: Id<"team">): Promise<boolean> {
  const names = await selectTemplateNames(deps.db, teamId, TEMPLATES_BATCH);
  await Promise.all(
    names.map(async (name) => {
      try {
        await deleteSnapshot(deps, { teamId, name, actor: SYSTEM_ACTOR });
      } catch (error) {
        // Another pass was there first.
        if (!(error instanceof AppError && error.code === "not_found")) throw error;
      }
    }),
  );
  return names.length === TEMPLATES_BATCH;
}
