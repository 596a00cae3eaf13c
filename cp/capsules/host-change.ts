// A change of a capsule that its host makes: pausing and resuming. The row is in the state between
// before the host is asked, so that neither a second request nor the monitor comes in between; the
// host's word decides how it ends, even when its answer was lost.

import type { SandboxInfo } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId, type Id } from "../../proto/ids.ts";
import type { AgentClient } from "../agents/agent-clients.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { LIST_TIMEOUT_MS } from "../agents/limits.ts";
import { acrossRestart, type CallOptions } from "../agents/retry.ts";
import type { CapsuleState } from "../capsule-states.ts";
import type { Queryable } from "../db/client.ts";
import { secondsFromNow } from "../db/time.ts";
import { AppError } from "../errors.ts";
import type { EventActor } from "../events/outbox.ts";
import type { CapsuleRow } from "./capsule.ts";
import type { CapsuleDeps } from "./deps.ts";
import { wrongState } from "./find-on-host.ts";
import { selectCapsule, updateDeadline } from "./queries.ts";

/** When a change that goes on at the host, or a host that does not answer, is looked at again. */
const AGAIN_SEC = 1;
/** Beyond the host's own time: a question about it when there is no answer, and to write it down. */
const SETTLE_SEC = LIST_TIMEOUT_MS / 1000 + 15;

/** How a change's end is told. */
export interface Ending {
  readonly actor: EventActor;
  readonly reason?: string;
  readonly isInferred?: boolean;
  /** What is said when it did not succeed. */
  readonly error: string;
}

/** What the host says of a capsule; undefined when it does not have it. */
export interface Reported {
  readonly reported: SandboxInfo | undefined;
  /** It has had more than its time: a host that is at it still is not waited for. */
  readonly isOverdue: boolean;
  readonly ending: Ending;
}

/** One kind of change. */
export interface HostChange<Answer> {
  readonly verb: "pause" | "resume";
  readonly from: CapsuleState;
  readonly to: "paused" | "running";
  /** What the capsule is on record while nobody can say what became of it. */
  readonly unheard: "missing" | "paused";
  readonly timeoutMs: number;
  /** Repeated calls of the row's operation are joined by the host. */
  ask(agent: AgentClient, row: CapsuleRow, options: CallOptions): Promise<Answer>;
  /** Records its success; undefined when the row is not this operation's any more. */
  record(row: CapsuleRow, answer: Answer, ending: Ending): Promise<CapsuleRow | undefined>;
  /** Ends it as its host tells; undefined when it is not over, or not this operation's to end. */
  settle(row: CapsuleRow, host: Reported): Promise<CapsuleRow | undefined>;
}

/** What the row says from the moment on when the change has begun. */
export function changing(deps: CapsuleDeps, timeoutMs: number) {
  const stateDeadline = secondsFromNow(timeoutMs / 1000 + SETTLE_SEC);
  return { operationId: deps.operations.next(), stateDeadline };
}

/**
 * Makes the change that the row has begun. Throws what the host refused it with, and `conflict` or
 * `invalid_state` when the capsule was moved on meanwhile. When the host does not say what became
 * of it, it stays in between until it does.
 */
export async function runChange<Answer>(
  deps: CapsuleDeps,
  change: HostChange<Answer>,
  { row, agent, actor }: { row: CapsuleRow; agent: AgentClient; actor: EventActor },
): Promise<CapsuleRow> {
  let answer: Answer;
  try {
    answer = await acrossRestart(
      { timeoutMs: change.timeoutMs, signal: deps.ending },
      async (options) => await change.ask(agent, row, options),
    );
  } catch (error) {
    if (deps.ending.aborted) throw stopping();
    return await afterFailure(deps, change, { row, agent, actor, error });
  }
  const moved = await change.record(row, answer, { actor, error: "" });
  if (moved === undefined) throw await movedOn(deps.db, row.id, [change.from]);
  return moved;
}

/** The capsule as its host has it; undefined when it has not. Throws when it does not answer. */
export async function askHost(
  deps: CapsuleDeps,
  agent: AgentClient,
  id: Id<"capsule">,
): Promise<SandboxInfo | undefined> {
  const options = { timeoutMs: LIST_TIMEOUT_MS, signal: deps.ending };
  const { sandboxes } = await agent.listSandboxes({}, options);
  const sandboxId = encodeId("capsule", id);
  return sandboxes.find((sandbox) => sandbox.sandboxId === sandboxId);
}

/** Has a loop look at the operation again in a moment, if it still is that operation. */
export async function lookAgain(deps: CapsuleDeps, { id, operationId }: CapsuleRow): Promise<void> {
  await updateDeadline(deps.db, { id, operationId, afterSec: AGAIN_SEC });
}

/** Why a move could not be made: somebody else moved the capsule first. */
export async function movedOn(
  q: Queryable,
  id: Id<"capsule">,
  states: readonly CapsuleState[],
): Promise<AppError> {
  const current = await selectCapsule(q, id);
  return current === undefined
    ? new AppError("conflict", "the capsule was deleted")
    : wrongState(current, states);
}

export function stopping(): AppError {
  return new AppError("service_unavailable", "the control plane is stopping: try again");
}

async function afterFailure<Answer>(
  deps: CapsuleDeps,
  change: HostChange<Answer>,
  failed: { row: CapsuleRow; agent: AgentClient; actor: EventActor; error: unknown },
): Promise<CapsuleRow> {
  const { row, agent, actor } = failed;
  const failure = agentFailure(failed.error, "placement");
  try {
    const reported = await askHost(deps, agent, row.id);
    const settled = await change.settle(row, {
      reported,
      isOverdue: false,
      ending: { actor, error: failure.message },
    });
    if (settled?.status === change.to && reported?.status === change.to) return settled;
  } catch (error) {
    deps.log.warn(`a ${change.verb} cannot be settled yet`, { capsule: row.id, error });
    await lookAgain(deps, row);
  }
  throw failure;
}
