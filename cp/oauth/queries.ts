// SQL of who people are to providers.

import { and, eq } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { oauthProviders } from "../db/tables.ts";

interface ProviderIdentity {
  readonly provider: string;
  readonly providerId: string;
}

/** Whose identity it is. */
export async function findIdentityOwner(
  q: Queryable,
  { provider, providerId }: ProviderIdentity,
): Promise<Id<"user"> | undefined> {
  const [row] = await q
    .select({ userId: oauthProviders.userId })
    .from(oauthProviders)
    .where(and(eq(oauthProviders.provider, provider), eq(oauthProviders.providerId, providerId)));
  return row?.userId;
}

/** False when somebody has it, also since a moment ago. */
export async function insertIdentity(
  q: Queryable,
  identity: ProviderIdentity & { userId: Id<"user">; email: string },
): Promise<boolean> {
  const rows = await q
    .insert(oauthProviders)
    .values(identity)
    .onConflictDoNothing()
    .returning({ provider: oauthProviders.provider });
  return rows.length === 1;
}

/** The providers that know the user. */
export async function selectProviders(q: Queryable, userId: Id<"user">): Promise<string[]> {
  const rows = await q
    .select({ provider: oauthProviders.provider })
    .from(oauthProviders)
    .where(eq(oauthProviders.userId, userId));
  return rows.map(({ provider }) => provider);
}

/** False when the user had none of that provider. */
export async function deleteIdentities(
  q: Queryable,
  { userId, provider }: { userId: Id<"user">; provider: string },
): Promise<boolean> {
  const rows = await q
    .delete(oauthProviders)
    .where(and(eq(oauthProviders.userId, userId), eq(oauthProviders.provider, provider)))
    .returning({ provider: oauthProviders.provider });
  return rows.length > 0;
}
