// What is told of snapshots, which are known by name.

import type { Id } from "../../proto/ids.ts";
import type { EventActor, NewEvent } from "../events/outbox.ts";

/** Without an error it went well. */
export function snapshotEvent(
  type: "template.snapshot.create" | "template.snapshot.delete",
  of: { teamId: Id<"team">; name: string; actor: EventActor },
  error?: string,
): NewEvent {
  const { teamId, name, actor } = of;
  const subject = { type: "snapshot", id: name };
  const told = { teamId, subject, type, actor } as const;
  return error === undefined
    ? { ...told, outcome: "success" }
    : { ...told, outcome: "error", error };
}
