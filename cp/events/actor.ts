// Who made an event happen.

import { encodeId } from "../../proto/ids.ts";
import type { TeamCaller } from "../auth/authenticator.ts";
import type { EventActor } from "./outbox.ts";

/** Who an event says did it. */
export function toActor({ actor }: TeamCaller): EventActor {
  const { type, id, name } = actor;
  return { type, name, id: encodeId(type === "user" ? "user" : "apiKey", id) };
}
