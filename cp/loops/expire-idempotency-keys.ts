// Loop: forgets idempotency keys past their time.

import type { Db } from "../db/client.ts";
import { expireKeys } from "../idempotency/service.ts";
import type { Loop } from "./driver.ts";

/** A key past its time is ignored anyway; this keeps the table small. */
const EVERY_MS = 600_000;
const BATCH = 5000;

export function expireIdempotencyKeysLoop(db: Db): Loop {
  return {
    name: "expire-idempotency-keys",
    everyMs: EVERY_MS,
    run: async () => ({ expired: await expireKeys(db, BATCH) }),
  };
}
