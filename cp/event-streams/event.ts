// An event of the table, and how it is put on the wire.

import { decodeId, type Id } from "../../proto/ids.ts";
import type { CapsuleRow } from "../capsules/capsule.ts";
import type { events } from "../db/tables.ts";

export type EventRow = typeof events.$inferSelect;

/** What is sent down a stream. */
export interface EventFrames {
  readonly connected: Uint8Array;
  readonly keepalive: Uint8Array;
  /** Some events that the client was not told are not kept any more. */
  readonly reset: Uint8Array;
  /** The last thing said to a client that took nothing for too long. */
  readonly stalled: Uint8Array;
  /** The event with its capsule as that is now, if it is about one that there is. */
  event(event: EventRow, capsule: CapsuleRow | undefined): Uint8Array;
}

/** The capsule that an event is about, null if it is about something else. */
export function capsuleOf({ resource }: EventRow): Id<"capsule"> | null {
  return resource.type === "sandbox" ? decodeId("capsule", resource.id) : null;
}
