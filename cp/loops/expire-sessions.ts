// Loop: forgets sessions that are over.

import type { Sessions } from "../sessions/service.ts";
import { inBatches } from "./batches.ts";
import type { Loop } from "./driver.ts";

/** One that is over is refused anyway; this keeps the table small. */
const EVERY_MS = 600_000;
/** What one statement deletes: it must end in time. */
const BATCH = 5000;

export function expireSessionsLoop(sessions: Sessions): Loop {
  return {
    name: "expire-sessions",
    everyMs: EVERY_MS,
    run: async (ending) => ({
      expired: await inBatches({ limit: BATCH, ending }, (limit) => sessions.expire(limit)),
    }),
  };
}
