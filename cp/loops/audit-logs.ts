// Loops: give entries of the audit log their places, and forget those past their time.

import type { Audit } from "../audit/service.ts";
import { inBatches } from "./batches.ts";
import type { Loop } from "./driver.ts";

/** Readers place entries themselves; this keeps small what they find. */
const PLACE_EVERY_MS = 10_000;
const EXPIRE_EVERY_MS = 600_000;
/** What one statement deletes: it must end in time. */
const EXPIRE_BATCH = 10_000;

export function placeAuditLogsLoop(audit: Audit): Loop {
  return {
    name: "place-audit-logs",
    everyMs: PLACE_EVERY_MS,
    run: async () => ({ placed: await audit.place() }),
  };
}

export function expireAuditLogsLoop(audit: Audit): Loop {
  return {
    name: "expire-audit-logs",
    everyMs: EXPIRE_EVERY_MS,
    run: async (ending) => ({
      expired: await inBatches({ limit: EXPIRE_BATCH, ending }, (limit) => audit.prune(limit)),
    }),
  };
}
