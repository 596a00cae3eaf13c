// Forgetting accounts that were deleted, once nobody can bring them back any more: each in one transaction.

import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import type { Mailer } from "../mail/mailer.ts";
import { accountPurgedMail } from "../mail/messages.ts";
import { deleteUser, lockUserToPurge, selectUsersToPurge } from "./queries.ts";
import { ACCOUNT_GRACE_DAYS as graceDays } from "./service.ts";

export interface AccountPurgeDeps {
  readonly db: Db;
  readonly mailer: Mailer;
}

/** Forgets at most `limit` of those whose time has come; how many were forgotten. */
export async function purgeAccounts(deps: AccountPurgeDeps, limit: number): Promise<number> {
  const ids = await selectUsersToPurge(deps.db, { graceDays, limit });
  let purged = 0;
  for (const id of ids) if (await purgeAccount(deps, id)) purged += 1;
  return purged;
}

/** False when it is not to be forgotten any more, or another pass is at it. */
async function purgeAccount({ db, mailer }: AccountPurgeDeps, id: Id<"user">): Promise<boolean> {
  return await db.transaction(async (tx) => {
    const user = await lockUserToPurge(tx, id, graceDays);
    if (user === undefined) return false;
    await deleteUser(tx, user);
    await mailer.send(accountPurgedMail({ to: user.email, name: user.name }), tx);
    return true;
  });
}
