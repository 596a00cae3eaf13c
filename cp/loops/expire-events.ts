// Loop: forgets events past their time.

import type { Events } from "../events/service.ts";
import type { Loop } from "./driver.ts";

const EVERY_MS = 600_000;

export function expireEventsLoop(events: Events): Loop {
  return {
    name: "expire-events",
    everyMs: EVERY_MS,
    run: async () => ({ expired: await events.expire() }),
  };
}
