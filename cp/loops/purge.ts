// Loops: remove what deleted teams own, and forget deleted accounts.

import type { CapsuleStarter } from "../capsules/deps.ts";
import { type AccountPurgeDeps, purgeAccounts } from "../deletion/purge-accounts.ts";
import { purgeTeams } from "../deletion/purge-teams.ts";
import { inBatches } from "./batches.ts";
import type { Loop } from "./driver.ts";

export const PURGE_TEAMS = "purge-teams";
/** Whoever deletes a team wakes it; this finds what others left. A pass that finds nothing is one query. */
const TEAMS_EVERY_MS = 5000;
const ACCOUNTS_EVERY_MS = 3600_000;
const ACCOUNTS_BATCH = 20;

export function purgeTeamsLoop(deps: CapsuleStarter): Loop {
  return {
    name: PURGE_TEAMS,
    everyMs: TEAMS_EVERY_MS,
    run: async (ending) => {
      const background: Promise<unknown>[] = [];
      const inBackground = (work: Promise<unknown>) => void background.push(work);
      const counts = await purgeTeams({ ...deps, ending, inBackground });
      await Promise.allSettled(background);
      return { ...counts };
    },
  };
}

export function purgeAccountsLoop(deps: AccountPurgeDeps): Loop {
  return {
    name: "purge-accounts",
    everyMs: ACCOUNTS_EVERY_MS,
    run: async (ending) => ({
      purged: await inBatches({ limit: ACCOUNTS_BATCH, ending }, (limit) =>
        purgeAccounts(deps, limit),
      ),
    }),
  };
}
