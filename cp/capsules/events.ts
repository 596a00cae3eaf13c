// What is told of capsules.

import { encodeId, type Id } from "../../proto/ids.ts";
import type { CapsuleState } from "../capsule-states.ts";
import type { NewEvent } from "../events/new-event.ts";
import { type EventActor, SYSTEM_ACTOR } from "../events/outbox.ts";
import type { CapsuleRow } from "./capsule.ts";

/** `capsule.state.changed` goes to dashboards only, the others to channels too. */
export type CapsuleEventType =
  | "capsule.create"
  | "capsule.pause"
  | "capsule.resume"
  | "capsule.destroy"
  | "capsule.state.changed";

/** What a move of a capsule tells the world; without one, that the state has changed. */
export interface MoveEvent {
  readonly type: CapsuleEventType;
  readonly outcome: NewEvent["outcome"];
  readonly actor: EventActor;
  /** Why the platform did it by itself, in the words of the event specification. */
  readonly reason?: string;
  /** Deduced from what a host says, not told by whoever did it. */
  readonly isInferred?: boolean;
  readonly error?: string;
}

/** The event of a capsule that came to be. */
export function insertionEvent(row: CapsuleRow, actor: EventActor): NewEvent {
  const told = { type: "capsule.state.changed", outcome: "", actor } as const;
  return { teamId: row.teamId, ...moveEvent({ id: row.id, from: null, to: row.status }, told) };
}

/** The event of a capsule that moves from one state to another, whatever team's it is. */
export function moveEvent(
  { id, from, to }: { id: Id<"capsule">; from: CapsuleState | null; to: CapsuleState },
  told: MoveEvent = { type: "capsule.state.changed", outcome: "", actor: SYSTEM_ACTOR },
): Omit<NewEvent, "teamId"> {
  const { type, outcome, actor, reason, isInferred, error = "" } = told;
  return {
    subject: { type: "sandbox", id: encodeId("capsule", id) },
    type,
    outcome,
    actor,
    metadata: {
      ...(from === null ? {} : { from }),
      to,
      ...(reason === undefined ? {} : { reason }),
      ...(isInferred === true ? { inferred: "true" } : {}),
    },
    error,
  };
}
