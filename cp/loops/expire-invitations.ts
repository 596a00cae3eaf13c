// Loop: forgets invitations that nobody accepted.

import type { Invitations } from "../teams/invitations.ts";
import { inBatches } from "./batches.ts";
import type { Loop } from "./driver.ts";

/** One past its time is refused anyway; this keeps the table small. */
const EVERY_MS = 600_000;
/** What one statement deletes: it must end in time. */
const BATCH = 5000;

export function expireInvitationsLoop(invitations: Invitations): Loop {
  return {
    name: "expire-invitations",
    everyMs: EVERY_MS,
    run: async (ending) => ({
      expired: await inBatches({ limit: BATCH, ending }, (limit) => invitations.expire(limit)),
    }),
  };
}
