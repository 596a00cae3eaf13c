// Deleting a snapshot: gone from the record at once, from its hosts now or when they answer.
// Capsules that were started from it go on: their hosts keep what they still need.

import type { Id } from "../../proto/ids.ts";
import { selectHost } from "../agents/host-address.ts";
import { SNAPSHOT_DELETE_TIMEOUT_MS } from "../agents/limits.ts";
import type { Tx } from "../db/client.ts";
import { type EventActor, recordEvents } from "../events/outbox.ts";
import { isBuiltIn, type TemplateRow } from "../templates/template.ts";
import { comesWithPlatform, notOwned } from "./change.ts";
import type { SnapshotDeps } from "./deps.ts";
import { snapshotEvent } from "./events.ts";
import {
  deleteOperation,
  deleteTemplate,
  insertOperation,
  type OperationRow,
  secondsFromNow,
  updateDeadline,
} from "./queries.ts";

/** The host's answer, and time to write it down. */
export const REMOVAL_LEASE_SEC = SNAPSHOT_DELETE_TIMEOUT_MS / 1000 + 15;
/** When a host that did not confirm is asked again. */
const RETRY_SEC = 30;

/** Throws `not_found`, and `forbidden` for a template of the platform. */
export async function deleteSnapshot(
  deps: SnapshotDeps,
  { teamId, name, actor }: { teamId: Id<"team">; name: string; actor: EventActor },
): Promise<void> {
  const removals = await deps.db.transaction(async (tx) => {
    const deleted = await deleteTemplate(tx, { teamId, name });
    if (deleted === undefined) throw await notOwned(tx, name);
    if (isBuiltIn(deleted.template)) throw comesWithPlatform(name);
    return await recordRemovals(deps, tx, { ...deleted, actor });
  });
  await Promise.all(removals.map((removal) => removeFiles(deps, removal)));
}

/** Puts on record what is still to be removed of a template that was deleted. */
export async function recordRemovals(
  deps: SnapshotDeps,
  tx: Tx,
  deleted: { template: TemplateRow; hostIds: readonly Id<"host">[]; actor: EventActor },
): Promise<OperationRow[]> {
  const { template, hostIds, actor } = deleted;
  const { teamId, name } = template;
  const removals: OperationRow[] = [];
  for (const hostId of hostIds) {
    const removal = await insertOperation(tx, {
      templateId: template.id,
      hostId,
      kind: "delete",
      operationId: deps.operations.next(),
      deadline: secondsFromNow(REMOVAL_LEASE_SEC),
      ...{ teamId, name, actor },
    });
    if (removal === undefined) throw new Error("unreachable: a whole template is being made");
    removals.push(removal);
  }
  const event = snapshotEvent("template.snapshot.delete", { teamId, name, actor });
  await recordEvents(tx, [event]);
  return removals;
}

/** Whether nothing is left on the host. If it does not answer, it is asked again later. */
export async function removeFiles(deps: SnapshotDeps, removal: OperationRow): Promise<boolean> {
  const { templateId, teamId, hostId, name } = removal;
  const host = await selectHost(deps.db, hostId);
  try {
    if (host !== undefined) {
      // Nobody should wait for a host that is known not to answer.
      if (host.status === "unreachable") throw new Error("the host is unreachable");
      const options = { timeoutMs: SNAPSHOT_DELETE_TIMEOUT_MS, signal: deps.ending };
      await deps.agents.at(host).deleteSnapshot({ templateId, teamId }, options);
    }
    await deleteOperation(deps.db, removal);
    return true;
  } catch (error) {
    deps.log.warn("files of a template are removed later", { template: name, hostId, error });
    await updateDeadline(deps.db, removal, RETRY_SEC);
    return false;
  }
}
