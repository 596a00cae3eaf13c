// Loop: copies events to the stream in Redis.

import type { Events } from "../events/service.ts";
import type { Loop } from "./driver.ts";

export const PUBLISH_EVENTS = "publish-events";
/** What was placed here is published at once; this is for what others left. */
const EVERY_MS = 1000;

export function publishEventsLoop(events: Events): Loop {
  return {
    name: PUBLISH_EVENTS,
    everyMs: EVERY_MS,
    isBusy: true,
    run: async () => ({ published: await events.publish() }),
  };
}
