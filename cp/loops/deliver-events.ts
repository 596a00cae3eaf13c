// Loop: tells clients what happened since the last pass.
//
// Every control plane does it for its own clients; without any it reads nothing.

import type { EventStreams } from "../event-streams/service.ts";
import type { Loop } from "./driver.ts";

/** How late a client hears of something. */
const EVERY_MS = 250;

export function deliverEventsLoop(eventStreams: EventStreams): Loop {
  return {
    name: "deliver-events",
    everyMs: EVERY_MS,
    run: async () => ({ ...(await eventStreams.deliver()) }),
  };
}
