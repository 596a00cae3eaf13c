// A capsule that a call can go to.

import type { HeldBytes } from "../../proto/byte-budget.ts";
import type { Id } from "../../proto/ids.ts";
import { encodeId } from "../../proto/ids.ts";
import type { AgentClient, AgentClients } from "../agents/agent-clients.ts";
import { besidesSnapshots, type CapsuleState } from "../capsule-states.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { CapsuleRow } from "./capsule.ts";
import type { CapsuleQueries } from "./queries.ts";

export interface RunningCapsule {
  readonly capsule: CapsuleRow;
  readonly agent: AgentClient;
  /** For what is kept in memory of its answers and for it: see `HeldAnswers.hold`. */
  readonly hold: () => HeldBytes;
  /** For what goes wrong after the answer has begun. */
  readonly log: Log;
}

/**
 * The team's capsule and the agent of its host. Throws `not_found`, `invalid_state` unless it runs,
 * and `host_unavailable` when the host is known not to answer.
 */
export async function findRunning(
  deps: { queries: CapsuleQueries; agents: AgentClients; log: Log },
  ids: { id: Id<"capsule">; teamId: Id<"team"> },
): Promise<RunningCapsule> {
  return await findOnHost(deps, { ...ids, states: ["running"] });
}

/** The same for a capsule in one of the states; `invalid_state` in any other. */
export async function findOnHost(
  { queries, agents, log }: { queries: CapsuleQueries; agents: AgentClients; log: Log },
  { states, ...ids }: { id: Id<"capsule">; teamId: Id<"team">; states: readonly CapsuleState[] },
): Promise<RunningCapsule> {
  const found = await queries.withHost(ids);
  if (found === undefined) throw capsuleNotFound(ids.id);
  const { capsule, hostStatus } = found;
  if (!states.includes(besidesSnapshots(capsule))) throw wrongState(capsule, states);
  if (!found.agent?.address || hostStatus === "unreachable") {
    throw new AppError("host_unavailable", "the capsule's host does not answer");
  }
  const hold = () => agents.held.hold({ capsuleId: capsule.id, teamId: capsule.teamId });
  return { capsule, agent: agents.at(found.agent), hold, log };
}

/** With the state's own name: a transient one is no state that clients know from elsewhere. */
export function wrongState(row: CapsuleRow, states: readonly CapsuleState[]): AppError {
  // A snapshot is never what is in the way.
  const status = besidesSnapshots(row);
  const message = `the capsule is not ${states.join(" or ")}: it is ${status}`;
  const reason = states.includes("running") ? "sandbox_not_running" : "sandbox_not_paused";
  return new AppError("invalid_state", message, { reason, details: { status } });
}

export function capsuleNotFound(id: Id<"capsule">): AppError {
  return new AppError("not_found", `capsule "${encodeId("capsule", id)}" not found`, {
    reason: "sandbox_not_found",
  });
}
