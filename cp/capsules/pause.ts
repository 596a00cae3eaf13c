// Pausing a capsule. The row says `pausing` before the host is asked, so that neither a second
// pause nor the monitor comes in between; the host's word decides how it ends, even when its answer
// was lost.

import type { SandboxInfo } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId, type Id } from "../../proto/ids.ts";
import type { AgentClient } from "../agents/agent-clients.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { LIST_TIMEOUT_MS, PAUSE_TIMEOUT_MS } from "../agents/limits.ts";
import { AppError } from "../errors.ts";
import type { EventActor } from "../events/outbox.ts";
import type { OperationDeps } from "./deps.ts";
import type { CapsuleState } from "./lifecycle.ts";
import { type MoveEvent, moveCapsule } from "./moves.ts";
import { secondsFromNow, selectCapsule, updateDeadline } from "./queries.ts";
import { type RunningCapsule, wrongState } from "./running.ts";
import type { CapsuleRow } from "./schema.ts";

/** The host's answer, a question about it when there is none, and time to write it down. */
const PAUSING_DEADLINE_SEC = (PAUSE_TIMEOUT_MS + LIST_TIMEOUT_MS) / 1000 + 15;
/** When a pause that goes on at the host, or a host that does not answer, is looked at again. */
const AGAIN_SEC = 1;

/** How an operation's end is told. */
export interface Ending {
  readonly actor: EventActor;
  readonly reason?: string;
  readonly isInferred?: boolean;
  /** What is said when it did not succeed. */
  readonly error: string;
}

/**
 * Pauses the running capsule. Throws `invalid_state` when it is not running any more, what the host
 * refused it with (it then runs on), and `conflict` when it was destroyed meanwhile. When the host
 * does not say what became of it, it stays `pausing` until it does.
 */
export async function pauseCapsule(
  deps: OperationDeps,
  { capsule, agent }: RunningCapsule,
  actor: EventActor,
): Promise<CapsuleRow> {
  const row = await moveCapsule(deps.db, {
    id: capsule.id,
    from: "running",
    to: "pausing",
    set: {
      operationId: deps.operations.next(),
      stateDeadline: secondsFromNow(PAUSING_DEADLINE_SEC),
    },
    event: { type: "capsule.state.changed", outcome: "", actor },
  });
  if (row === undefined) throw await movedOn(deps, capsule.id, ["running"]);

  const sandboxId = encodeId("capsule", row.id);
  const { operationId } = row;
  try {
    const options = { timeoutMs: PAUSE_TIMEOUT_MS, signal: deps.ending };
    await agent.pauseSandbox({ sandboxId, operationId }, options);
  } catch (error) {
    if (deps.ending.aborted) throw stopping();
    return await afterFailure(deps, { row, agent, actor, error });
  }
  const paused = await recordPaused(deps, row, { actor, error: "" });
  if (paused === undefined) throw await movedOn(deps, row.id, ["running"]);
  return paused;
}

/**
 * Ends a pause as its host tells: `told` is undefined when the host does not have the capsule. The
 * moved row, or undefined when it is not over, or not this operation's to end.
 */
export async function settlePausing(
  deps: OperationDeps,
  row: CapsuleRow,
  { told, ending }: { told: SandboxInfo | undefined; ending: Ending },
): Promise<CapsuleRow | undefined> {
  const { id, operationId, status: from } = row;
  const { actor, error, ...why } = ending;
  switch (told?.status) {
    case "paused":
    // Its VMM ended: what is left of it rests, too.
    case "error":
      return await recordPaused(deps, row, ending, told);
    case "running": {
      const event: MoveEvent = { type: "capsule.pause", outcome: "error", actor, error, ...why };
      return await moveCapsule(deps.db, { id, from, to: "running", operationId, event });
    }
    case undefined: {
      const reason = "its host lost the capsule while it was paused";
      const event: MoveEvent = {
        type: "capsule.destroy",
        outcome: "success",
        actor,
        reason: "orphaned",
        isInferred: true,
      };
      const set = { reason };
      return await moveCapsule(deps.db, { id, from, to: "stopped", operationId, set, event });
    }
    default:
      await updateDeadline(deps.db, { id, operationId, afterSec: AGAIN_SEC });
      return undefined;
  }
}

/** The capsule as its host has it; undefined when it has not. Throws when it does not answer. */
export async function askHost(
  deps: OperationDeps,
  agent: AgentClient,
  id: Id<"capsule">,
): Promise<SandboxInfo | undefined> {
  const options = { timeoutMs: LIST_TIMEOUT_MS, signal: deps.ending };
  const { sandboxes } = await agent.listSandboxes({}, options);
  const sandboxId = encodeId("capsule", id);
  return sandboxes.find((sandbox) => sandbox.sandboxId === sandboxId);
}

/** Why a move could not be made: somebody else moved the capsule first. */
export async function movedOn(
  deps: OperationDeps,
  id: Id<"capsule">,
  states: readonly CapsuleState[],
): Promise<AppError> {
  const current = await selectCapsule(deps.db, id);
  return current === undefined
    ? new AppError("conflict", "the capsule was deleted")
    : wrongState(current, states);
}

export function stopping(): AppError {
  return new AppError("service_unavailable", "the control plane is stopping: try again");
}

/** Since when the pause is durable, as the host tells. */
export function durableAt(told: SandboxInfo | undefined): Date | null {
  const unixSec = Number(told?.durableAtUnix ?? 0n);
  return unixSec > 0 ? new Date(unixSec * 1000) : null;
}

async function recordPaused(
  deps: OperationDeps,
  { id, operationId }: CapsuleRow,
  { actor, reason, isInferred }: Ending,
  told?: SandboxInfo,
): Promise<CapsuleRow | undefined> {
  const event: MoveEvent = {
    type: "capsule.pause",
    outcome: "success",
    actor,
    ...(reason === undefined ? {} : { reason }),
    ...(isInferred === undefined ? {} : { isInferred }),
  };
  const set = { durableAt: durableAt(told), reason: told?.reason ?? "" };
  // `missing`: the host fell silent for the monitor meanwhile, but has answered us.
  for (const from of ["pausing", "missing"] as const) {
    const move = { id, from, to: "paused", operationId, set, event } as const;
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
    const settled = await settlePausing(deps, row, { told, ending });
    if (settled?.status === "paused" && told?.status === "paused") return settled;
  } catch (unanswered) {
    deps.log.warn("a pause cannot be settled yet", { capsule: id, error: unanswered });
    await updateDeadline(deps.db, { id, operationId, afterSec: AGAIN_SEC });
  }
  throw failure;
}
