// Loop: forgets idempotency keys past their time.

import type { Db } from "../db/client.ts";
import { expireKeys } from "../idempotency/service.ts";
import { inBatches } from "./batches.ts";
import type { Loop } from "./driver.ts";

/** A key past its time is ignored anyway; this keeps the table small. */
const EVERY_MS = 600_000;
/** What one statement deletes: it must end in time. */
const BATCH = 5000;

export function expireIdempotencyKeysLoop(db: Db): Loop {
  return {
    name: "expire-idempotency-keys",
    everyMs: EVERY_MS,
    run: async (ending) => ({
      expired: await inBatches({ limit: BATCH, ending }, (limit) => expireKeys(db, limit)),
    }),
  };
}
