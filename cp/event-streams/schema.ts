// Events as they are told: server-sent events (HTML standard, 9.2), each with its kind and one line of JSON.

import { encodeId } from "../../proto/ids.ts";
import type { CapsuleRow } from "../capsules/capsule.ts";
import { toCapsule } from "../capsules/schema.ts";
import { timestamp } from "../wire.ts";
import type { EventFrames, EventRow } from "./event.ts";

export const EVENT_FRAMES: EventFrames = {
  connected: frame("connected", { message: "connected" }),
  keepalive: Buffer.from(": keepalive\n\n"),
  reset: frame("reset", {
    message: "what came after that event is not kept: look at what is there",
  }),
  stalled: frame("stalled", { message: "nothing was read for a minute: come back" }),
  event: eventFrame,
};

function eventFrame(event: EventRow, capsule: CapsuleRow | undefined): Uint8Array {
  const { type, outcome, resource, actor, metadata, error, createdAt } = event;
  const { id, name } = actor;
  const told = {
    event: type,
    ...(outcome === "" ? {} : { outcome }),
    team_id: encodeId("team", event.teamId),
    resource,
    actor: { type: actor.type, ...(id === "" ? {} : { id }), ...(name === "" ? {} : { name }) },
    metadata,
    ...(error === "" ? {} : { error }),
    ...(resource.type === "sandbox"
      ? { sandbox: capsule === undefined ? null : toCapsule(capsule) }
      : {}),
    timestamp: timestamp(createdAt),
  };
  return frame(type, told, encodeId("event", event.eventId));
}

/** JSON has no line breaks, and the kinds are ours. The id is what a client comes back with. */
function frame(kind: string, data: unknown, id?: string): Uint8Array {
  const last = id === undefined ? "" : `id: ${id}\n`;
  return Buffer.from(`event: ${kind}\ndata: ${JSON.stringify(data)}\n${last}\n`);
}
