// Work on templates that nobody does: its control plane died, or a host did not answer.

import { msSince } from "../db/time.ts";
import { AppError } from "../errors.ts";
import { type SettleCounts, settleClaimed } from "../operations/settle-claimed.ts";
import { failCreate, runCreate } from "./create.ts";
import type { SnapshotDeps } from "./deps.ts";
import { claimAbandoned, type OperationRow, updateDeadline } from "./queries.ts";
import { removeFiles } from "./remove.ts";

/** What one pass takes over, and works on at the same time. */
const BATCH = 16;
/** How long a pass waits for a host that is at it; a later one goes on waiting. */
const JOIN_TIMEOUT_MS = 20_000;
/** Longer than a pass can take, so that no other one takes the same work over. */
const LEASE_SEC = 120;
/** A host that is at it for this long will not get there. */
const OVERDUE_MS = 600_000;

/** One pass over at most a batch. */
export async function settleTemplates(deps: SnapshotDeps): Promise<SettleCounts> {
  const claim = { operationId: deps.operations.next(), leaseSec: LEASE_SEC, limit: BATCH };
  const claimed = await deps.db.transaction(async (tx) => await claimAbandoned(tx, claim));
  return await settleClaimed(claimed, {
    settle: (row) => (row.kind === "create" ? settleCreate(deps, row) : removeFiles(deps, row)),
    updateDeadline: (row, afterSec) => updateDeadline(deps.db, row, afterSec),
  });
}

async function settleCreate(deps: SnapshotDeps, row: OperationRow): Promise<boolean> {
  if ((await msSince(deps.db, row.createdAt)) > OVERDUE_MS) {
    const failure = new AppError("agent_error", "the host did not end the snapshot");
    await failCreate(deps, row, { failure, isAtIt: true });
    return true;
  }
  try {
    await runCreate(deps, row, { timeoutMs: JOIN_TIMEOUT_MS, isJoining: true });
    return true;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const isOver = error.code !== "service_unavailable";
    if (!isOver) await updateDeadline(deps.db, row, 1);
    deps.log.warn("a snapshot was not taken over", { template: row.name, error });
    return isOver;
  }
}
