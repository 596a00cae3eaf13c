// What became of work on capsules that another request began, whose control plane may be gone.

import type { Id } from "../../proto/ids.ts";
import { CREATE_TIMEOUT_MS, DESTROY_TIMEOUT_MS } from "../agents/limits.ts";
import { besidesSnapshots, OPERATION_STATES } from "../capsule-states.ts";
import type { Db } from "../db/client.ts";
import { AppError, toErrorCode } from "../errors.ts";
import type { CapsuleRow } from "./capsule.ts";
import { selectCapsule } from "./queries.ts";

/** Work that waits for another's outcome looks this often: a start takes longer. */
const POLL_MS = 50;
/** The longest a create or a resume can take, and the clean-up after it. */
const WAIT_MS = CREATE_TIMEOUT_MS + DESTROY_TIMEOUT_MS;

/** The capsule as its create left it. Throws when it failed, or when it was destroyed meanwhile. */
export async function settledCreate(db: Db, id: Id<"capsule">): Promise<CapsuleRow> {
  const row = await waitUntilSettled(db, id);
  if (row.errorCode !== "") throw createFailure(row);
  if (row.startedAt === null || row.status === "stopping" || row.status === "stopped") {
    throw new AppError("conflict", "the capsule was destroyed while it was being created");
  }
  return row;
}

/** Why there is no such capsule: its create failed. */
export function createFailure({ errorCode, reason }: CapsuleRow): AppError {
  return new AppError(toErrorCode(errorCode), reason);
}

/** The capsule, in whatever state. Throws `conflict` when there is none any more. */
export async function recordedCapsule(db: Db, id: Id<"capsule">): Promise<CapsuleRow> {
  const row = await selectCapsule(db, id);
  if (row === undefined) throw new AppError("conflict", "the capsule was deleted");
  return row;
}

/** The capsule as its pause or resume left it; null when that did not succeed. */
export async function settledChange(
  db: Db,
  id: Id<"capsule">,
  to: "paused" | "running",
): Promise<CapsuleRow | null> {
  const row = await waitUntilSettled(db, id);
  return besidesSnapshots(row) === to ? row : null;
}

async function waitUntilSettled(db: Db, id: Id<"capsule">): Promise<CapsuleRow> {
  const endsAtMs = performance.now() + WAIT_MS;
  while (performance.now() < endsAtMs) {
    const row = await recordedCapsule(db, id);
    if (isOver(row)) return row;
    await Bun.sleep(POLL_MS);
  }
  throw new AppError("service_unavailable", "the first request with the key is still at it");
}

function isOver(row: CapsuleRow): boolean {
  const status = besidesSnapshots(row);
  const isLost = status === "missing" && row.startedAt === null;
  // What is promised to be destroyed is over for whoever wanted it otherwise.
  const isUnderWay = OPERATION_STATES.some((state) => state === status && state !== "stopping");
  return !isUnderWay && !isLost;
}
