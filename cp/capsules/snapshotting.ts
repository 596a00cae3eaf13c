// A capsule of which snapshots are made: that is what it is called until the last of them is over, and in
// all else it is what it was. Both change in one transaction: it gets that state with the first snapshot that is
// under way on record, and leaves it with the last. Whoever pauses, resumes or destroys it takes it out of it before,
// and so does a host that falls silent: then it is `missing`, or `paused` if it was, whatever is under way, and when
// the host is back it runs or rests under those names until another snapshot begins.

import type { Id } from "../../proto/ids.ts";
import { besidesSnapshots, SNAPSHOT_SOURCES } from "../capsule-states.ts";
import type { Tx } from "../db/client.ts";
import { secondsFromNow } from "../db/time.ts";
import { AppError } from "../errors.ts";
import type { EventActor } from "../events/outbox.ts";
import { wrongState } from "./find-on-host.ts";
import { moveCapsule } from "./moves.ts";
import { hasSnapshotUnderWay, lockCapsule } from "./queries.ts";

/**
 * One more snapshot of the capsule is under way; after `deadlineSec` it is looked after. Throws
 * `invalid_state` when it neither runs nor rests, `conflict` when there is none any more.
 */
export async function beginSnapshotting(
  tx: Tx,
  { id, actor, deadlineSec }: { id: Id<"capsule">; actor: EventActor; deadlineSec: number },
): Promise<void> {
  const row = await lockCapsule(tx, id);
  if (row === undefined) throw new AppError("conflict", "the capsule was deleted");
  const was = SNAPSHOT_SOURCES.find((source) => source === besidesSnapshots(row));
  if (was === undefined) throw wrongState(row, SNAPSHOT_SOURCES);
  if (row.status === "snapshotting") return;
  await moveCapsule(tx, {
    id,
    from: was,
    to: "snapshotting",
    set: { snapshottedFrom: was, stateDeadline: secondsFromNow(deadlineSec) },
    event: { type: "capsule.state.changed", outcome: "", actor },
  });
}

/** A snapshot of the capsule is over. Whether it is not `snapshotting` any more. */
export async function endSnapshotting(
  tx: Tx,
  { id, ...told }: { id: Id<"capsule">; actor: EventActor; reason?: string },
): Promise<boolean> {
  const row = await lockCapsule(tx, id);
  if (row === undefined || row.snapshottedFrom === null) return true;
  if (await hasSnapshotUnderWay(tx, id)) return false;
  await moveCapsule(tx, {
    id,
    from: "snapshotting",
    to: row.snapshottedFrom,
    event: { type: "capsule.state.changed", outcome: "", ...told },
  });
  return true;
}
