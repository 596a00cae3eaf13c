// Loop: writes when keys and sessions were used last.

import type { LastUses } from "../auth/last-uses.ts";
import type { Loop } from "./driver.ts";

/** What is lost when a control plane ends unasked. */
const EVERY_MS = 5_000;

export function writeLastUsesLoop(lastUses: LastUses): Loop {
  return {
    name: "write-last-uses",
    everyMs: EVERY_MS,
    run: async () => ({ ...(await lastUses.write()) }),
  };
}
