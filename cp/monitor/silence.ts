// Hosts that fell silent, and what becomes of their capsules on record.

import { encodeId } from "../../proto/ids.ts";
import type { MoveEvent } from "../capsules/events.ts";
import { moveCapsulesOfHost } from "../capsules/moves.ts";
import { recordEvents, SYSTEM_ACTOR } from "../events/outbox.ts";
import { hostEvents } from "../hosts/events.ts";
import type { OperationDeps } from "../operations/deps.ts";
import { selectSilentHosts, updateHostUnreachable } from "./queries.ts";

/** What was paused is not lost with its host. */
const LOST_WITH_HOST = ["running", "starting", "pending", "pausing", "snapshotting"] as const;

/** Marks hosts that fell silent unreachable, and their capsules missing. Returns how many hosts. */
export async function markSilentHosts(deps: OperationDeps): Promise<number> {
  let marked = 0;
  for (const { id: hostId } of await selectSilentHosts(deps.db)) {
    const isMarked = await deps.db.transaction(async (tx) => {
      const host = await updateHostUnreachable(tx, hostId);
      if (host === undefined) return false;
      const event: MoveEvent = {
        type: "capsule.state.changed",
        outcome: "",
        actor: SYSTEM_ACTOR,
        reason: "host_unreachable",
      };
      const resting = { hostId, from: "snapshotting", snapshottedFrom: "paused" } as const;
      await moveCapsulesOfHost(tx, { ...resting, to: "paused", event });
      await moveCapsulesOfHost(tx, { hostId, from: "resuming", to: "paused", event });
      for (const from of LOST_WITH_HOST) {
        await moveCapsulesOfHost(tx, { hostId, from, to: "missing", event });
      }
      await recordEvents(tx, hostEvents("host.down", { id: hostId, teamId: host.teamId }));
      return true;
    });
    if (isMarked) {
      deps.log.warn("host fell silent", { host: encodeId("host", hostId) });
      marked++;
    }
  }
  return marked;
}
