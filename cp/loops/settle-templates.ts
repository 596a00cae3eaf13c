// Loop: ends work on templates that nobody does.

import type { OperationStarter } from "../operations/deps.ts";
import { settleTemplates } from "../snapshots/settle.ts";
import type { Loop } from "./driver.ts";

/** What a name stays taken after its control plane died; a pass that finds nothing is one query. */
const EVERY_MS = 2000;

export function settleTemplatesLoop(deps: OperationStarter): Loop {
  return {
    name: "settle-templates",
    everyMs: EVERY_MS,
    run: async (ending) => {
      const background: Promise<unknown>[] = [];
      const inBackground = (work: Promise<unknown>) => void background.push(work);
      const counts = await settleTemplates({ ...deps, ending, inBackground });
      await Promise.allSettled(background);
      return { ...counts };
    },
  };
}
