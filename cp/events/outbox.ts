// Events are written in the transaction that makes them true; delivery reads them from the table.

import { encodeId, type Id } from "../../proto/ids.ts";
import type { Db, Queryable } from "../db/client.ts";
import { events } from "../db/tables.ts";
import { deleteOldEvents } from "./queries.ts";

/** Who made it happen. Ids in their external form; the platform itself has none. */
export interface EventActor {
  readonly type: "user" | "api_key" | "system";
  readonly id: string;
  readonly name: string;
}

export const SYSTEM_ACTOR: EventActor = { type: "system", id: "", name: "" };

export interface CapsuleEvent {
  readonly teamId: Id<"team">;
  readonly capsuleId: Id<"capsule">;
  /** `capsule.state.changed` goes to dashboards only, the others to channels too. */
  readonly type:
    | "capsule.create"
    | "capsule.pause"
    | "capsule.resume"
    | "capsule.destroy"
    | "capsule.state.changed";
  readonly outcome: "success" | "error" | "";
  readonly actor: EventActor;
  readonly metadata: Record<string, string>;
  /** The cause when the outcome is `error`; for clients. */
  readonly error: string;
}

/** Writes events of capsules; `q` is the transaction of the change they tell of. */
export async function recordCapsuleEvents(
  q: Queryable,
  recorded: readonly CapsuleEvent[],
): Promise<void> {
  if (recorded.length === 0) return;
  await q.insert(events).values(
    recorded.map(({ teamId, capsuleId, type, outcome, actor, metadata, error }) => ({
      teamId,
      type,
      outcome,
      actor,
      resource: { type: "sandbox", id: encodeId("capsule", capsuleId) },
      metadata,
      error,
    })),
  );
}

export interface SnapshotEvent {
  readonly teamId: Id<"team">;
  /** Snapshots are known by name. */
  readonly name: string;
  readonly type: "template.snapshot.create" | "template.snapshot.delete";
  readonly outcome: "success" | "error";
  readonly actor: EventActor;
  readonly metadata: Record<string, string>;
  readonly error: string;
}

/** Writes an event of a snapshot; `q` is the transaction of the change it tells of. */
export async function recordSnapshotEvent(q: Queryable, event: SnapshotEvent): Promise<void> {
  const { name, ...columns } = event;
  await q.insert(events).values({ ...columns, resource: { type: "snapshot", id: name } });
}

/** How long events can be delivered, or asked for, after the fact. */
const EVENTS_TTL_DAYS = 30;

/** Forgets events past their time, at most `limit`; returns how many. */
export async function expireEvents(db: Db, limit: number): Promise<number> {
  return await deleteOldEvents(db, { days: EVENTS_TTL_DAYS, limit });
}

export interface HostEvent {
  readonly teamId: Id<"team">;
  readonly hostId: Id<"host">;
  readonly type: "host.up" | "host.down";
}

/** Writes an event of a team's own host. */
export async function recordHostEvent(q: Queryable, event: HostEvent): Promise<void> {
  await q.insert(events).values({
    teamId: event.teamId,
    type: event.type,
    outcome: "",
    actor: SYSTEM_ACTOR,
    resource: { type: "host", id: encodeId("host", event.hostId) },
  });
}
