// Loop: forgets events past their time.

import type { Db } from "../db/client.ts";
import { expireEvents } from "../events/outbox.ts";
import type { Loop } from "./driver.ts";

const EVERY_MS = 600_000;
const BATCH = 10_000;

export function expireEventsLoop(db: Db): Loop {
  return {
    name: "expire-events",
    everyMs: EVERY_MS,
    run: async () => ({ expired: await expireEvents(db, BATCH) }),
  };
}
