// SQL of API keys.

import { and, count, desc, eq } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { teamApiKeys, teams, users } from "../db/tables.ts";
import type { ApiKeyRow } from "./api-key.ts";

export async function insertApiKey(
  q: Queryable,
  key: typeof teamApiKeys.$inferInsert,
): Promise<ApiKeyRow> {
  const [row] = await q.insert(teamApiKeys).values(key).returning();
  if (row === undefined) throw new Error("unreachable: an insert returns its row");
  return row;
}

/** Newest first, each with the mail address of its creator while that account exists. */
export async function listApiKeys(q: Queryable, teamId: Id<"team">) {
  return await q
    .select({ key: teamApiKeys, creatorEmail: users.email })
    .from(teamApiKeys)
    .leftJoin(users, eq(users.id, teamApiKeys.createdBy))
    .where(eq(teamApiKeys.teamId, teamId))
    .orderBy(desc(teamApiKeys.createdAt), desc(teamApiKeys.id));
}

/** False when the team has no such key, by that creator if one is named. */
export async function deleteApiKey(
  q: Queryable,
  key: { id: Id<"apiKey">; teamId: Id<"team">; createdBy: Id<"user"> | undefined },
): Promise<boolean> {
  const isMadeBy = key.createdBy && eq(teamApiKeys.createdBy, key.createdBy);
  const rows = await q
    .delete(teamApiKeys)
    .where(and(eq(teamApiKeys.id, key.id), eq(teamApiKeys.teamId, key.teamId), isMadeBy))
    .returning({ id: teamApiKeys.id });
  return rows.length === 1;
}

export async function hasApiKey(
  q: Queryable,
  key: { id: Id<"apiKey">; teamId: Id<"team"> },
): Promise<boolean> {
  const rows = await q
    .select({ id: teamApiKeys.id })
    .from(teamApiKeys)
    .where(and(eq(teamApiKeys.id, key.id), eq(teamApiKeys.teamId, key.teamId)));
  return rows.length === 1;
}

/** How many keys the team has; the lock holds the number until the transaction ends. */
export async function countApiKeysLocked(q: Queryable, teamId: Id<"team">): Promise<number> {
  await q.select({ id: teams.id }).from(teams).where(eq(teams.id, teamId)).for("update");
  const [row] = await q
    .select({ keys: count() })
    .from(teamApiKeys)
    .where(eq(teamApiKeys.teamId, teamId));
  return row?.keys ?? 0;
}
