// What is told of snapshots, which are known by name.

import type { Id } from "../../proto/ids.ts";
import type { NewEvent } from "../events/new-event.ts";
import type { EventActor } from "../events/outbox.ts";

interface SnapshotSubject {
  readonly teamId: Id<"team">;
  readonly name: string;
  readonly actor: EventActor;
}

/** Without an error it went well. */
export function snapshotEvent(
  type: "template.snapshot.create" | "template.snapshot.delete",
  of: SnapshotSubject,
  error?: string,
): NewEvent {
  const { teamId, name, actor } = of;
  const subject = { type: "snapshot", id: name };
  const told = { teamId, subject, type, actor } as const;
  return error === undefined
    ? { ...told, outcome: "success" }
    : { ...told, outcome: "error", error };
}

/** What its owner changed about a template. */
export function templateEvent(
  type: "template.rename" | "template.publish" | "template.unpublish",
  { teamId, name, actor }: SnapshotSubject,
  metadata: Readonly<Record<string, string>> = {},
): NewEvent {
  return {
    teamId,
    subject: { type: "snapshot", id: name },
    type,
    outcome: "success",
    actor,
    metadata,
  };
}
