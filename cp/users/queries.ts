// SQL of what people may know of their own account.

import { eq } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import { oauthProviders, users } from "../db/tables.ts";

/** What `GET /v1/me` tells of a person beyond their name and address. */
export async function findSignInMethods(
  db: Db,
  id: Id<"user">,
): Promise<{ hasPassword: boolean; providers: string[] }> {
  const [row] = await db
    .select({ passwordHash: users.passwordHash })
    .from(users)
    .where(eq(users.id, id));
  const providers = await db
    .select({ provider: oauthProviders.provider })
    .from(oauthProviders)
    .where(eq(oauthProviders.userId, id))
    .orderBy(oauthProviders.provider);
  return {
    hasPassword: row !== undefined && row.passwordHash !== null,
    providers: providers.map(({ provider }) => provider),
  };
}
