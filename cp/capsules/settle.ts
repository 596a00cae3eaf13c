// Operations that nobody works on: their control plane died, or they are past their deadline. What
// the host says decides how they end.

import type { SandboxInfo } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId } from "../../proto/ids.ts";
import { selectHost } from "../agents/host-address.ts";
import { CREATE_TIMEOUT_MS } from "../agents/limits.ts";
import { msSince } from "../db/time.ts";
import { SYSTEM_ACTOR } from "../events/outbox.ts";
import { type SettleCounts, settleClaimed } from "../operations/settle-claimed.ts";
import type { CapsuleRow } from "./capsule.ts";
import type { CapsuleDeps } from "./deps.ts";
import { finishStopping } from "./destroy.ts";
import type { MoveEvent } from "./events.ts";
import { askHost, lookAgain } from "./host-change.ts";
import { moveCapsule, runningColumns } from "./moves.ts";
import { pauseChange } from "./pause.ts";
import { claimAbandoned, updateDeadline } from "./queries.ts";
import { resumeChange } from "./resume.ts";
import { endSnapshotting } from "./snapshotting.ts";

/** What one pass takes over, and works on at the same time. */
const BATCH = 32;
/** A host that does not answer a destroy in this time is asked again by a later pass. */
const DESTROY_TIMEOUT_MS = 15_000;
/** Longer than a pass can take, so that no other one takes the same operation over. */
const LEASE_SEC = 60;

/** One pass over at most a batch of abandoned operations. */
export async function settleOperations(deps: CapsuleDeps): Promise<SettleCounts> {
  const claim = { operationId: deps.operations.next(), leaseSec: LEASE_SEC, limit: BATCH };
  const claimed = await deps.db.transaction(async (tx) => await claimAbandoned(tx, claim));
  return await settleClaimed(claimed, {
    settle: (row) => settle(deps, row),
    updateDeadline: ({ id, operationId }, afterSec) =>
      updateDeadline(deps.db, { id, operationId, afterSec }),
  });
}

/** Whether the operation is over. If not, its deadline says when it is looked at again. */
async function settle(deps: CapsuleDeps, row: CapsuleRow): Promise<boolean> {
  switch (row.status) {
    case "pending":
      // The host was never asked: whoever would still ask finds the operation is not theirs.
      return await fail(deps, row, "the control plane stopped before it asked a host");
    case "starting":
      return await settleStarting(deps, row);
    case "pausing":
    case "resuming":
      return await settlePauseOrResume(deps, row);
    case "snapshotting":
      return await settleSnapshotting(deps, row);
    case "stopping":
      return await finishStopping(deps, row, {
        event: {
          type: "capsule.destroy",
          outcome: "success",
          actor: SYSTEM_ACTOR,
          reason: "transient_timeout",
        },
        timeoutMs: DESTROY_TIMEOUT_MS,
      });
    default:
      throw new Error(`unreachable: ${row.status} is no state of an operation`);
  }
}

async function settleStarting(deps: CapsuleDeps, row: CapsuleRow): Promise<boolean> {
  const host = await selectHost(deps.db, row.hostId);
  if (host === undefined) return await fail(deps, row, "the capsule's host was deleted");

  const agent = deps.agents.at(host);
  const sandboxId = encodeId("capsule", row.id);
  const signal = deps.ending;
  try {
    const found = await askHost(deps, agent, row.id);
    if (found?.status === "running") return await finish(deps, row, found);
    if (found?.status === "starting" && !(await isOverdue(deps, row, CREATE_TIMEOUT_MS))) {
      return await waitForIt(deps, row);
    }

    await agent.destroySandbox({ sandboxId }, { timeoutMs: DESTROY_TIMEOUT_MS, signal });
    return await fail(deps, row, found?.reason || "the capsule did not start on its host");
  } catch (error) {
    deps.log.warn("a start cannot be settled yet", { capsule: sandboxId, error });
    return await waitForHost(deps, row, { lateMs: CREATE_TIMEOUT_MS, to: "missing" });
  }
}

/**
 * The settling of snapshots ends it with the last of them. A capsule without any is what it was: the monitor
 * holds that against what its host has.
 */
async function settleSnapshotting(deps: CapsuleDeps, row: CapsuleRow): Promise<boolean> {
  const event = { actor: SYSTEM_ACTOR, reason: "transient_timeout" };
  const isOver = await deps.db.transaction(
    async (tx) => await endSnapshotting(tx, { id: row.id, ...event }),
  );
  return isOver || (await waitForIt(deps, row));
}

/** A pause or a resume: whatever the host has of the capsule by now is what becomes of it. */
async function settlePauseOrResume(deps: CapsuleDeps, row: CapsuleRow): Promise<boolean> {
  const host = await selectHost(deps.db, row.hostId);
  const change = row.status === "pausing" ? pauseChange(deps) : resumeChange(deps, { from: null });
  // It may yet end a moment after nobody waited for it any more.
  const lateMs = 2 * change.timeoutMs;
  try {
    // A host that was deleted took its capsules with it.
    const reported =
      host === undefined ? undefined : await askHost(deps, deps.agents.at(host), row.id);
    const isDone = reported?.status === change.to;
    const settled = await change.settle(row, {
      reported,
      isOverdue: await isOverdue(deps, row, lateMs),
      ending: {
        actor: SYSTEM_ACTOR,
        reason: isDone ? "transient_timeout_inferred" : "transient_timeout",
        isInferred: isDone,
        error: `the ${change.verb} did not come to an end`,
      },
    });
    return settled !== undefined;
  } catch (error) {
    const capsule = encodeId("capsule", row.id);
    deps.log.warn(`a ${change.verb} cannot be settled yet`, { capsule, error });
    return await waitForHost(deps, row, { lateMs, to: change.unheard });
  }
}

async function finish(deps: CapsuleDeps, row: CapsuleRow, reported: SandboxInfo): Promise<boolean> {
  const event: MoveEvent = {
    type: "capsule.create",
    outcome: "success",
    actor: SYSTEM_ACTOR,
    reason: "transient_timeout_inferred",
    isInferred: true,
  };
  const { id, operationId } = row;
  const set = runningColumns(reported);
  await moveCapsule(deps.db, { id, from: "starting", to: "running", operationId, set, event });
  return true;
}

async function fail(deps: CapsuleDeps, row: CapsuleRow, reason: string): Promise<boolean> {
  const event: MoveEvent = {
    type: "capsule.create",
    outcome: "error",
    actor: SYSTEM_ACTOR,
    reason: "transient_timeout",
    error: reason,
  };
  const { id, operationId, status: from } = row;
  const set = { reason, errorCode: "agent_error" };
  await moveCapsule(deps.db, { id, from, to: "error", operationId, set, event });
  return true;
}

async function waitForIt(deps: CapsuleDeps, row: CapsuleRow): Promise<boolean> {
  await lookAgain(deps, row);
  return false;
}

/**
 * A host that does not answer, though it may tell that it lives: what its capsule is meanwhile the monitor
 * would say, too, if it were silent, and it takes the capsule from there when the host can be asked.
 */
async function waitForHost(
  deps: CapsuleDeps,
  row: CapsuleRow,
  { lateMs, to }: { lateMs: number; to: "missing" | "paused" },
): Promise<boolean> {
  if (!(await isOverdue(deps, row, lateMs))) return await waitForIt(deps, row);
  const { id, operationId, status: from } = row;
  const reason = "host_unreachable";
  const event = {
    type: "capsule.state.changed",
    outcome: "",
    actor: SYSTEM_ACTOR,
    reason,
  } as const;
  await moveCapsule(deps.db, { id, from, to, operationId, event });
  return true;
}

/** A host that is at it for this long will not get there. */
async function isOverdue({ db }: CapsuleDeps, row: CapsuleRow, lateMs: number): Promise<boolean> {
  return (await msSince(db, row.lastUpdated)) > lateMs;
}
