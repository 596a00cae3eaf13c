// Loop: hands mails to the mail server.

import type { Outbox } from "../mail/outbox.ts";
import type { Loop } from "./driver.ts";

/** People wait for a code. */
const EVERY_MS = 1000;

export function deliverMailsLoop(outbox: Outbox): Loop {
  return {
    name: "deliver-mails",
    everyMs: EVERY_MS,
    run: (ending) => outbox.deliver(ending),
  };
}
