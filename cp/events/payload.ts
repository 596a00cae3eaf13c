// An event as everybody outside is told it: in the stream of Redis, by channels, and by the API.

import { encodeId } from "../../proto/ids.ts";
import type { events } from "../db/tables.ts";
import { timestamp } from "../wire.ts";

export type EventRow = typeof events.$inferSelect;

export interface EventPage {
  readonly rows: EventRow[];
  /** Whether there are later ones already. */
  readonly hasMore: boolean;
}

export interface EventPayload {
  /** The same however often it is told. */
  readonly id: string;
  readonly event: string;
  readonly outcome?: "success" | "error";
  readonly timestamp: string;
  readonly team_id: string;
  readonly actor: { readonly type: string; readonly id?: string; readonly name?: string };
  readonly resource: { readonly id: string; readonly type: string };
  readonly metadata?: Readonly<Record<string, string>>;
  readonly error?: string;
}

export function toPayload(row: EventRow): EventPayload {
  const { actor, resource, metadata, outcome, error } = row;
  return {
    id: encodeId("event", row.eventId),
    event: row.type,
    ...(outcome === "" ? {} : { outcome }),
    timestamp: timestamp(row.createdAt),
    team_id: encodeId("team", row.teamId),
    actor: {
      type: actor.type,
      ...(actor.id === "" ? {} : { id: actor.id }),
      ...(actor.name === "" ? {} : { name: actor.name }),
    },
    resource: { id: resource.id, type: resource.type },
    ...(Object.keys(metadata).length === 0 ? {} : { metadata }),
    ...(error === "" ? {} : { error }),
  };
}
