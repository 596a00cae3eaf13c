// Resuming a paused capsule on the host that has it. Of several resumes at once one finds the row
// `paused`; it takes the rest of the capsule's place on its host in the same transaction.

import type { ResumeSandboxResponse, SandboxInfo } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId } from "../../proto/ids.ts";
import type { AgentClient } from "../agents/agent-clients.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { LIST_TIMEOUT_MS, RESUME_TIMEOUT_MS } from "../agents/limits.ts";
import { AppError } from "../errors.ts";
import type { EventActor } from "../events/outbox.ts";
import type { OperationDeps } from "./deps.ts";
import { type MoveEvent, moveCapsule, moveCapsuleIn } from "./moves.ts";
import { askHost, type Ending, movedOn, stopping } from "./pause.ts";
import { hasRoom, RESTING_DISK_SHARE, RESTING_MEMORY_SHARE } from "./placement.ts";
import { lockHost, runningColumns, secondsFromNow, updateDeadline } from "./queries.ts";
import type { RunningCapsule } from "./running.ts";
import type { CapsuleRow } from "./schema.ts";

/** The host's answer, a question about it when there is none, and time to write it down. */
const RESUMING_DEADLINE_SEC = (RESUME_TIMEOUT_MS + LIST_TIMEOUT_MS) / 1000 + 15;
/** When a resume that goes on at the host, or a host that does not answer, is looked at again. */
const AGAIN_SEC = 1;

export interface ResumeRequest {
  readonly actor: EventActor;
  /** False boots the disk as it is and forgets the memory. */
  readonly memory: boolean;
}

/**
 * Resumes the paused capsule. Throws `invalid_state` when it is not paused any more or nothing is
 * left that could be resumed, `host_unavailable`, `no_hosts_available` when its host has no room
 * for it, and what the host refused it with; it is paused then. When the host does not say what
 * became of it, it stays `resuming` until it does.
 */
export async function resumeCapsule(
  deps: OperationDeps,
  { capsule, agent }: RunningCapsule,
  { actor, memory }: ResumeRequest,
): Promise<CapsuleRow> {
  const row = await beginResuming(deps, capsule, actor);
  let told: ResumeSandboxResponse;
  try {
    const options = { timeoutMs: RESUME_TIMEOUT_MS, signal: deps.ending };
    told = await agent.resumeSandbox({ ...toAgent(deps, row), cold: !memory }, options);
  } catch (error) {
    if (deps.ending.aborted) throw stopping();
    return await afterFailure(deps, { row, agent, actor, error });
  }
  const running = await recordRunning(deps, row, { told, ending: { actor, error: "" } });
  if (running === undefined) throw await movedOn(deps, row.id, ["paused"]);
  return running;
}

/**
 * Ends a resume as its host tells: `told` is undefined when the host does not have the capsule. The
 * moved row, or undefined when it is not over, or not this operation's to end.
 */
export async function settleResuming(
  deps: OperationDeps,
  row: CapsuleRow,
  { told, ending }: { told: SandboxInfo | undefined; ending: Ending },
): Promise<CapsuleRow | undefined> {
  const { id, operationId } = row;
  switch (told?.status) {
    case "running":
      return await recordRunning(deps, row, { told, ending });
    case undefined:
    case "error":
    case "paused": {
      const { actor, error, ...why } = ending;
      const event: MoveEvent = { type: "capsule.resume", outcome: "error", actor, error, ...why };
      const set = { reason: told?.reason ?? "" };
      const move = { id, from: "resuming", to: "paused", operationId, set, event } as const;
      return await moveCapsule(deps.db, move);
    }
    default:
      await updateDeadline(deps.db, { id, operationId, afterSec: AGAIN_SEC });
      return undefined;
  }
}

async function beginResuming(
  deps: OperationDeps,
  capsule: CapsuleRow,
  actor: EventActor,
): Promise<CapsuleRow> {
  const moved = await deps.db.transaction(async (tx) => {
    const host = await lockHost(tx, capsule.hostId);
    if (host === undefined) {
      throw new AppError("host_unavailable", "the capsule's host takes no capsules at present");
    }
    // What is set aside for it while it rests counts as used already.
    const missing = {
      vcpus: capsule.vcpus,
      memoryMb: capsule.memoryMb * (1 - RESTING_MEMORY_SHARE),
      diskSizeMb: capsule.diskSizeMb * (1 - RESTING_DISK_SHARE),
    };
    const row = await moveCapsuleIn(tx, {
      id: capsule.id,
      from: "paused",
      to: "resuming",
      set: {
        operationId: deps.operations.next(),
        stateDeadline: secondsFromNow(RESUMING_DEADLINE_SEC),
      },
      event: { type: "capsule.state.changed", outcome: "", actor },
    });
    if (row !== undefined && !hasRoom(host, missing)) {
      throw new AppError("no_hosts_available", "the capsule's host has no room for it at present");
    }
    return row;
  });
  if (moved === undefined) throw await movedOn(deps, capsule.id, ["paused"]);
  return moved;
}

function toAgent(deps: OperationDeps, row: CapsuleRow) {
  return {
    sandboxId: encodeId("capsule", row.id),
    operationId: row.operationId,
    timeoutSec: row.timeoutSec,
    defaultUser: row.defaultUser,
    defaultEnv: row.defaultEnv,
    kernelVersion: row.metadata.kernel_version ?? "",
    envdAccessToken: deps.envdTokens.of(row.id),
  };
}

async function recordRunning(
  deps: OperationDeps,
  { id, operationId }: CapsuleRow,
  { told, ending }: { told: ResumeSandboxResponse | SandboxInfo; ending: Ending },
): Promise<CapsuleRow | undefined> {
  const { actor, error: _, ...why } = ending;
  const resumedFrom = "resumedFrom" in told ? told.resumedFrom : "";
  const columns = runningColumns(told);
  const metadata =
    resumedFrom === "" ? columns.metadata : { ...columns.metadata, resumed_from: resumedFrom };
  const set = { ...columns, metadata, durableAt: null, reason: "" };
  const event: MoveEvent = { type: "capsule.resume", outcome: "success", actor, ...why };
  // `paused`: the monitor took the host for dead meanwhile, but it has answered us.
  for (const from of ["resuming", "paused"] as const) {
    const move = { id, from, to: "running", operationId, set, event } as const;
    const moved = await moveCapsule(deps.db, move);
    if (moved !== undefined) return moved;
  }
  return undefined;
}

interface Failed {
  readonly row: CapsuleRow;
  readonly agent: AgentClient;
  readonly actor: EventActor;
  readonly error: unknown;
}

async function afterFailure(
  deps: OperationDeps,
  { row, agent, actor, error }: Failed,
): Promise<CapsuleRow> {
  const failure = agentFailure(error, "place");
  const { id, operationId } = row;
  try {
    const told = await askHost(deps, agent, id);
    const ending = { actor, error: failure.message };
    const settled = await settleResuming(deps, row, { told, ending });
    if (settled?.status === "running") return settled;
  } catch (unanswered) {
    deps.log.warn("a resume cannot be settled yet", { capsule: id, error: unanswered });
    await updateDeadline(deps.db, { id, operationId, afterSec: AGAIN_SEC });
  }
  throw failure;
}
