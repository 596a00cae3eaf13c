// SQL of channels.

import { and, asc, count, eq, inArray, ne, sql } from "drizzle-orm";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { channels, teams, users, usersTeams } from "../db/tables.ts";
import type { ChannelRow } from "./channel.ts";

export interface ChannelKey {
  readonly id: Id<"channel">;
  readonly teamId: Id<"team">;
}

const isThat = ({ id, teamId }: ChannelKey) =>
  and(eq(channels.id, id), eq(channels.teamId, teamId));

/** How many the team has; the lock holds the number until the transaction ends. */
export async function countChannelsLocked(q: Queryable, teamId: Id<"team">): Promise<number> {
  await q.select({ id: teams.id }).from(teams).where(eq(teams.id, teamId)).for("update");
  const [row] = await q
    .select({ channels: count() })
    .from(channels)
    .where(eq(channels.teamId, teamId));
  return row?.channels ?? 0;
}

/** Undefined when the team has one of that name. */
export async function insertChannel(
  q: Queryable,
  row: typeof channels.$inferInsert,
): Promise<ChannelRow | undefined> {
  const [inserted] = await q.insert(channels).values(row).onConflictDoNothing().returning();
  return inserted;
}

/** By name. */
export async function listChannels(q: Queryable, teamId: Id<"team">): Promise<ChannelRow[]> {
  return await q
    .select()
    .from(channels)
    .where(eq(channels.teamId, teamId))
    .orderBy(asc(channels.name));
}

export async function findChannel(q: Queryable, key: ChannelKey): Promise<ChannelRow | undefined> {
  const [row] = await q.select().from(channels).where(isThat(key));
  return row;
}

export async function findChannelLocked(
  q: Queryable,
  key: ChannelKey,
): Promise<ChannelRow | undefined> {
  const [row] = await q.select().from(channels).where(isThat(key)).for("update");
  return row;
}

export async function hasChannelNamed(
  q: Queryable,
  { id, teamId, name }: ChannelKey & { name: string },
): Promise<boolean> {
  const rows = await q
    .select({ id: channels.id })
    .from(channels)
    .where(and(eq(channels.teamId, teamId), eq(channels.name, name), ne(channels.id, id)));
  return rows.length > 0;
}

/** Undefined when there is no such channel. */
export async function updateChannel(
  q: Queryable,
  key: ChannelKey,
  set: Partial<typeof channels.$inferInsert>,
): Promise<ChannelRow | undefined> {
  const [row] = await q
    .update(channels)
    .set({ ...set, updatedAt: sql`now()` })
    .where(isThat(key))
    .returning();
  return row;
}

/** The channel as it was; undefined when there was none. */
export async function deleteChannel(
  q: Queryable,
  key: ChannelKey,
): Promise<ChannelRow | undefined> {
  const [row] = await q.delete(channels).where(isThat(key)).returning();
  return row;
}

/** Some that are encrypted with another key, for the transaction to encrypt anew. */
export async function selectSealedOtherwise(
  q: Queryable,
  { keyNames, limit }: { keyNames: readonly string[]; limit: number },
): Promise<ChannelRow[]> {
  const [current, ...others] = keyNames;
  return await q
    .select()
    .from(channels)
    .where(and(ne(channels.keyName, current ?? ""), inArray(channels.keyName, others)))
    .limit(limit)
    .for("update", { skipLocked: true });
}

/** Those of the addresses that are of active members of the team. */
export async function membersAmong(
  q: Queryable,
  { teamId, emails }: { teamId: Id<"team">; emails: readonly string[] },
): Promise<string[]> {
  if (emails.length === 0) return [];
  const rows = await q
    .select({ email: users.email })
    .from(usersTeams)
    .innerJoin(users, eq(users.id, usersTeams.userId))
    .where(
      and(
        eq(usersTeams.teamId, teamId),
        eq(users.status, "active"),
        inArray(users.email, [...emails]),
      ),
    );
  return rows.map(({ email }) => email);
}
