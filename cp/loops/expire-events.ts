// Loop: forgets events past their time.

import type { Events } from "../events/service.ts";
import { inBatches } from "./batches.ts";
import type { Loop } from "./driver.ts";

const EVERY_MS = 600_000;
/** What one statement deletes: it must end in time. */
const BATCH = 10_000;

export function expireEventsLoop(events: Events): Loop {
  return {
    name: "expire-events",
    everyMs: EVERY_MS,
    run: async (ending) => ({
      expired: await inBatches({ limit: BATCH, ending }, (limit) => events.expire(limit)),
    }),
  };
}
