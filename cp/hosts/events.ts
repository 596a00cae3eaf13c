// What is told of hosts: of those that a team brings, for nobody else has to know.

import { encodeId, type Id } from "../../proto/ids.ts";
import type { NewEvent } from "../events/new-event.ts";
import { SYSTEM_ACTOR } from "../events/outbox.ts";

/** None for a host that belongs to no team. */
export function hostEvents(
  type: "host.up" | "host.down",
  { id, teamId }: { id: Id<"host">; teamId: Id<"team"> | null },
): NewEvent[] {
  if (teamId === null) return [];
  const subject = { type: "host", id: encodeId("host", id) };
  return [{ teamId, subject, type, outcome: "", actor: SYSTEM_ACTOR }];
}
