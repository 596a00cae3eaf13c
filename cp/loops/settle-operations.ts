// Loop: ends operations on capsules that nobody works on.

import type { CapsuleStarter } from "../capsules/deps.ts";
import { settleOperations } from "../capsules/settle.ts";
import type { Loop } from "./driver.ts";

const SETTLE_OPERATIONS = "settle-operations";
/** What a client waits for after its control plane died; a pass that finds nothing is one query. */
const EVERY_MS = 1000;

export function settleOperationsLoop(deps: CapsuleStarter): Loop {
  return {
    name: SETTLE_OPERATIONS,
    everyMs: EVERY_MS,
    run: (ending) => settleOperations({ ...deps, ending }),
  };
}
