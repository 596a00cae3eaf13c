// Events as they are told: server-sent events (HTML standard, 9.2), each with its kind and one line of JSON.

import type { CapsuleRow } from "../capsules/capsule.ts";
import { toCapsule } from "../capsules/schema.ts";
import { timestamp } from "../wire.ts";
import type { EventFrames, EventRow } from "./event.ts";

export const EVENT_FRAMES: EventFrames = {
  connected: frame("connected", { message: "connected" }),
  keepalive: Buffer.from(": keepalive\n\n"),
  event: eventFrame,
};

function eventFrame(event: EventRow, capsule: CapsuleRow | undefined): Uint8Array {
  const { type, outcome, resource, actor, metadata, error, createdAt } = event;
  const { id, name } = actor;
  return frame(type, {
    event: type,
    ...(outcome === "" ? {} : { outcome }),
    resource,
    actor: { type: actor.type, ...(id === "" ? {} : { id }), ...(name === "" ? {} : { name }) },
    metadata,
    ...(error === "" ? {} : { error }),
    ...(resource.type === "sandbox"
      ? { sandbox: capsule === undefined ? null : toCapsule(capsule) }
      : {}),
    timestamp: timestamp(createdAt),
  });
}

/** JSON has no line breaks, and the kinds are ours. */
function frame(kind: string, data: unknown): Uint8Array {
  return Buffer.from(`event: ${kind}\ndata: ${JSON.stringify(data)}\n\n`);
}
