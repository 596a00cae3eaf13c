// SQL of snapshots: templates that hold memory, where they lie, and the work on them.

import { and, eq, lte, or, sql } from "drizzle-orm";
import type { PgInsertValue } from "drizzle-orm/pg-core";
import type { Id } from "../../proto/ids.ts";
import type { Queryable } from "../db/client.ts";
import { capsules, templateHosts, templateOperations, templates } from "../db/tables.ts";
import { isAbandoned } from "../operations/operations.ts";
import type { TemplateRow } from "../templates/template.ts";

const UNIQUE_VIOLATION = "23505";

export type OperationRow = typeof templateOperations.$inferSelect;

export async function selectTemplate(q: Queryable, id: string): Promise<TemplateRow | undefined> {
  const [row] = await q.select().from(templates).where(eq(templates.id, id));
  return row;
}

export async function insertTemplate(
  q: Queryable,
  { hostId, ...row }: PgInsertValue<typeof templates> & { id: string; hostId: Id<"host"> },
): Promise<TemplateRow> {
  const [inserted] = await q.insert(templates).values(row).returning();
  if (inserted === undefined) throw new Error("unreachable: insert returned no row");
  await q.insert(templateHosts).values({ templateId: row.id, hostId });
  return inserted;
}

/** The deleted template with the hosts that have its files; undefined when there is none. */
export async function deleteTemplate(
  q: Queryable,
  { teamId, name }: { teamId: Id<"team">; name: string },
): Promise<{ template: TemplateRow; hostIds: Id<"host">[] } | undefined> {
  const named = and(eq(templates.teamId, teamId), eq(templates.name, name));
  const [locked] = await q.select({ id: templates.id }).from(templates).where(named).for("update");
  if (locked === undefined) return undefined;
  const rows = await q
    .select({ hostId: templateHosts.hostId })
    .from(templateHosts)
    .where(eq(templateHosts.templateId, locked.id));
  const [template] = await q.delete(templates).where(eq(templates.id, locked.id)).returning();
  if (template === undefined) throw new Error("unreachable: a locked row was deleted");
  return { template, hostIds: rows.map(({ hostId }) => hostId) };
}

/** Says who sees the team's template of that name, and whether that is news. */
export async function updateVisibility(
  q: Queryable,
  { teamId, name, isPublic }: { teamId: Id<"team">; name: string; isPublic: boolean },
): Promise<"changed" | "unchanged" | "missing"> {
  const named = and(eq(templates.teamId, teamId), eq(templates.name, name));
  const [template] = await q.select().from(templates).where(named).for("update");
  if (template === undefined) return "missing";
  if (template.isPublic === isPublic) return "unchanged";
  await q.update(templates).set({ isPublic }).where(eq(templates.id, template.id));
  return "changed";
}

/** Renames the team's template, which is not public then; whether there was one. */
export async function updateName(
  q: Queryable,
  { teamId, name, newName }: { teamId: Id<"team">; name: string; newName: string },
): Promise<boolean> {
  const named = and(eq(templates.teamId, teamId), eq(templates.name, name));
  const set = { name: newName, isPublic: false };
  return (await q.update(templates).set(set).where(named).returning()).length > 0;
}

/** Undefined when the team has one of that name under way, or the template has one there. */
export async function insertOperation(
  q: Queryable,
  row: PgInsertValue<typeof templateOperations>,
): Promise<OperationRow | undefined> {
  const [inserted] = await q
    .insert(templateOperations)
    .values(row)
    .onConflictDoNothing()
    .returning();
  return inserted;
}

/** Whether it was still this operation's. */
export async function deleteOperation(q: Queryable, row: OperationRow): Promise<boolean> {
  return (await q.delete(templateOperations).where(isSame(row)).returning()).length > 0;
}

/** What makes that template; undefined when nothing does any more. */
export async function selectCreate(
  q: Queryable,
  templateId: string,
): Promise<OperationRow | undefined> {
  const { templateId: id, kind } = templateOperations;
  const own = and(eq(id, templateId), eq(kind, "create"));
  return (await q.select().from(templateOperations).where(own))[0];
}

/** Whether a template of that name is on its way to the team. */
export async function isNameBeingMade(
  q: Queryable,
  { teamId, name }: { teamId: Id<"team">; name: string },
): Promise<boolean> {
  const { templateId: id } = templateOperations;
  const isNamed = and(eq(templateOperations.teamId, teamId), eq(templateOperations.name, name));
  const own = and(isNamed, eq(templateOperations.kind, "create"));
  return (await q.select({ id }).from(templateOperations).where(own)).length > 0;
}

/** From now on the files are to be removed; undefined when it is not this operation's any more. */
export async function updateToDelete(
  q: Queryable,
  row: OperationRow,
  leaseSec: number,
): Promise<OperationRow | undefined> {
  const [updated] = await q
    .update(templateOperations)
    .set({ kind: "delete", capsuleId: null, deadline: secondsFromNow(leaseSec) })
    .where(isSame(row))
    .returning();
  return updated;
}

/** Says when a loop looks at the operation again, if it still is that one. */
export async function updateDeadline(
  q: Queryable,
  row: OperationRow,
  afterSec: number,
): Promise<void> {
  await q
    .update(templateOperations)
    .set({ deadline: secondsFromNow(afterSec) })
    .where(isSame(row));
}

/**
 * Takes over operations that nobody works on: those of dead control planes and those past their
 * deadline. Two callers never get the same one. `q` is a transaction.
 */
export async function claimAbandoned(
  q: Queryable,
  { operationId, leaseSec, limit }: { operationId: string; leaseSec: number; limit: number },
): Promise<OperationRow[]> {
  const { templateId, hostId, deadline } = templateOperations;
  const isOver = lte(deadline, sql`now()`);
  // What is to be removed waits for its deadline: nobody is asked to remove it twice at once.
  const isOrphaned = and(
    eq(templateOperations.kind, "create"),
    isAbandoned(templateOperations.operationId),
  );
  const abandoned = await q
    .select({ templateId, hostId })
    .from(templateOperations)
    .where(or(isOver, isOrphaned))
    .limit(limit)
    .for("update", { skipLocked: true });
  const claimed = [];
  for (const key of abandoned) {
    const isKey = and(eq(templateId, key.templateId), eq(hostId, key.hostId));
    const changes = { operationId, deadline: secondsFromNow(leaseSec) };
    claimed.push(...(await q.update(templateOperations).set(changes).where(isKey).returning()));
  }
  return claimed;
}

/** What a snapshot takes over from its capsule, in whatever state that is by now. */
export async function selectSource(q: Queryable, id: Id<"capsule">) {
  const { vcpus, memoryMb, defaultUser, defaultEnv, metadata } = capsules;
  const columns = { vcpus, memoryMb, defaultUser, defaultEnv, metadata };
  return (await q.select(columns).from(capsules).where(eq(capsules.id, id)))[0];
}

export function secondsFromNow(seconds: number) {
  return sql<Date>`now() + make_interval(secs => ${seconds})`;
}

function isSame({ templateId, hostId, operationId }: OperationRow) {
  return and(
    eq(templateOperations.templateId, templateId),
    eq(templateOperations.hostId, hostId),
    eq(templateOperations.operationId, operationId),
  );
}

/** Whether a name is taken by now. Drizzle wraps what PostgreSQL says. */
export function isUniqueViolation(error: unknown): boolean {
  const cause = error instanceof Error ? (error.cause ?? error) : undefined;
  return cause instanceof Error && "code" in cause && cause.code === UNIQUE_VIOLATION;
}
