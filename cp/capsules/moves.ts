// A move of a capsule from one state to the next: compare-and-set, with its event in the same
// transaction.

import { sql } from "drizzle-orm";
import { besidesSnapshots, type CapsuleState } from "../capsule-states.ts";
import type { Queryable, Tx } from "../db/client.ts";
import { recordEvents } from "../events/outbox.ts";
import type { CapsuleRow } from "./capsule.ts";
import { type MoveEvent, moveEvent } from "./events.ts";
import { isLegalMove } from "./lifecycle.ts";
import {
  lockCapsule,
  type StateChange,
  type StateChangeOfHost,
  updateState,
  updateStateOfHost,
} from "./queries.ts";

export interface Move extends StateChange {
  readonly event?: MoveEvent;
}

/**
 * Moves the capsule and records the event, or does neither and returns undefined: the capsule has
 * left that state, or its operation is another one by now. It is one statement.
 */
export async function moveCapsule(q: Queryable, move: Move): Promise<CapsuleRow | undefined> {
  requireLegal(move.from, move.to);
  return await updateState(q, move, moveEvent(move, move.event));
}

/** `moveCapsule` of a capsule that is `from`, whatever snapshots are made of it meanwhile. */
export async function moveBesidesSnapshots(tx: Tx, move: Move): Promise<CapsuleRow | undefined> {
  const moved = await moveCapsule(tx, move);
  if (moved !== undefined) return moved;
  const row = await lockCapsule(tx, move.id);
  if (row === undefined || besidesSnapshots(row) !== move.from) return undefined;
  return await moveCapsule(tx, { ...move, from: row.status });
}

/** `moveCapsule` from whichever of the states the capsule is in. */
export async function moveFromAny(
  q: Queryable,
  states: readonly CapsuleState[],
  move: Omit<Move, "from">,
): Promise<CapsuleRow | undefined> {
  for (const from of states) {
    const moved = await moveCapsule(q, { ...move, from });
    if (moved !== undefined) return moved;
  }
  return undefined;
}

/** The event of a change's end: who ended it and why, and what went wrong if it did. */
export function toldAs(
  { type, outcome }: Pick<MoveEvent, "type"> & { outcome: "success" | "error" },
  { error, ...why }: Omit<MoveEvent, "type" | "outcome"> & { error: string },
): MoveEvent {
  return { type, outcome, ...why, ...(outcome === "error" ? { error } : {}) };
}

/** Moves all capsules of the host that are in `from`; returns how many. */
export async function moveCapsulesOfHost(
  tx: Tx,
  move: StateChangeOfHost & { readonly event: MoveEvent },
): Promise<number> {
  requireLegal(move.from, move.to);
  const moved = await updateStateOfHost(tx, move);
  await recordEvents(
    tx,
    moved.map((row) => ({ ...moveEvent({ ...move, id: row.id }, move.event), teamId: row.teamId })),
  );
  return moved.length;
}

function requireLegal(from: CapsuleState, to: CapsuleState): void {
  if (!isLegalMove(from, to)) throw new Error(`unreachable: illegal move from ${from} to ${to}`);
}

/** What a capsule has from the moment it runs, as its host says. */
export function runningColumns(reported: { hostIp: string; metadata: Record<string, string> }) {
  const startedAt = sql<Date>`now()`;
  return {
    hostIp: reported.hostIp,
    metadata: reported.metadata,
    startedAt,
    lastActiveAt: startedAt,
  };
}
