// Loop: gives events their places, from where they go to whoever is to be told.

import type { Events } from "../events/service.ts";
import type { Loop } from "./driver.ts";

/** How late a channel hears of something. */
const EVERY_MS = 250;

/** `placed` is called behind a pass that placed some. */
export function placeEventsLoop(events: Events, placed: () => void): Loop {
  return {
    name: "place-events",
    everyMs: EVERY_MS,
    isBusy: true,
    run: async () => {
      const count = await events.place();
      if (count > 0) placed();
      return { placed: count };
    },
  };
}
