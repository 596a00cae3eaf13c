// Destroying a capsule: a promise once the row says `stopping`, kept now or, when the host does not
// answer, by the loop that settles operations.

import { encodeId, type Id } from "../../proto/ids.ts";
import type { AgentOfHost } from "../agents/agent-clients.ts";
import { type HostStatus, selectHost } from "../agents/host-address.ts";
import { DESTROY_TIMEOUT_MS } from "../agents/limits.ts";
import type { Begun } from "../begun.ts";
import type { Tx } from "../db/client.ts";
import { msSince, secondsFromNow } from "../db/time.ts";
import { type EventActor, SYSTEM_ACTOR } from "../events/outbox.ts";
import type { CapsuleRow } from "./capsule.ts";
import type { CapsuleDeps } from "./deps.ts";
import type { MoveEvent } from "./events.ts";
import { moveCapsule } from "./moves.ts";
import { lockCapsulesToStop, selectCapsule, updateDeadline } from "./queries.ts";

/** The host's answer, and time to write it down. */
const STOPPING_DEADLINE_SEC = DESTROY_TIMEOUT_MS / 1000 + 15;
/** When a destroy that the host did not confirm is tried again, at first and at most. */
const RETRY_SEC_MIN = 2;
const RETRY_SEC_MAX = 60;

/**
 * Begins to destroy the capsule in whatever state it is. The end is whether its host has nothing left
 * of it; when the host could not be asked it is promised, and asked again.
 */
export async function destroyCapsule(
  deps: CapsuleDeps,
  row: CapsuleRow,
  actor: EventActor,
): Promise<Begun<Id<"capsule">, boolean>> {
  const ids = [row.id];
  const stopping = await beginStopping(deps, row, actor);
  if (stopping === undefined) return { ids, done: Promise.resolve(true) };
  const event = { type: "capsule.destroy", outcome: "success", actor } as const;
  const done = finishStopping(deps, stopping, { event, timeoutMs: DESTROY_TIMEOUT_MS });
  return { ids, done };
}

/**
 * Promises, in a transaction that takes its capsules from a team, to destroy all that have not ended: what settles
 * operations keeps that.
 */
export async function stopCapsulesOfTeam(
  tx: Tx,
  { teamId, operations }: { teamId: Id<"team">; operations: CapsuleDeps["operations"] },
): Promise<void> {
  for (const { id, status: from } of await lockCapsulesToStop(tx, teamId)) {
    await moveCapsule(tx, {
      ...{ id, from, to: "stopping" },
      set: { operationId: operations.next(), stateDeadline: secondsFromNow(0) },
      event: { type: "capsule.state.changed", outcome: "", actor: SYSTEM_ACTOR },
    });
  }
}

/** Asks the host and records the end. A host that does not answer is asked again later. */
export async function finishStopping(
  deps: CapsuleDeps,
  row: CapsuleRow,
  { event, timeoutMs }: { event: MoveEvent; timeoutMs: number },
): Promise<boolean> {
  const host = await selectHost(deps.db, row.hostId);
  // A host that was deleted took its capsules with it.
  if (host !== undefined && !(await destroyOnHost(deps, row, { ...host, timeoutMs }))) {
    const { id, operationId } = row;
    await updateDeadline(deps.db, { id, operationId, afterSec: await retrySec(deps, row) });
    return false;
  }
  // Whoever else destroys it at the same time records the end once.
  await moveCapsule(deps.db, { id: row.id, from: "stopping", to: "stopped", event });
  return true;
}

async function destroyOnHost(
  deps: CapsuleDeps,
  row: CapsuleRow,
  host: AgentOfHost & { status: HostStatus; timeoutMs: number },
): Promise<boolean> {
  // Nobody should wait for a host that is known not to answer.
  if (host.status === "unreachable") return false;
  const sandboxId = encodeId("capsule", row.id);
  try {
    const options = { timeoutMs: host.timeoutMs, signal: deps.ending };
    await deps.agents.at(host).destroySandbox({ sandboxId }, options);
    return true;
  } catch (error) {
    const fields = { capsule: sandboxId, host: row.hostId, error };
    deps.log.warn("the host did not confirm a destroy; it is asked again", fields);
    return false;
  }
}

async function beginStopping(
  deps: CapsuleDeps,
  row: CapsuleRow,
  actor: EventActor,
): Promise<CapsuleRow | undefined> {
  let current: CapsuleRow | undefined = row;
  // Each turn that fails means that somebody else moved it, and every path of moves ends.
  while (current !== undefined && current.status !== "stopped") {
    if (current.status === "stopping") return current;
    const moved = await moveCapsule(deps.db, {
      id: current.id,
      from: current.status,
      to: "stopping",
      set: {
        operationId: deps.operations.next(),
        stateDeadline: secondsFromNow(STOPPING_DEADLINE_SEC),
      },
      event: { type: "capsule.state.changed", outcome: "", actor },
    });
    if (moved !== undefined) return moved;
    current = await selectCapsule(deps.db, row.id);
  }
  return undefined;
}

/** Longer the longer it has been stopping. */
async function retrySec({ db }: CapsuleDeps, row: CapsuleRow): Promise<number> {
  const stoppingSec = (await msSince(db, row.lastUpdated)) / 1000;
  return Math.min(Math.max(stoppingSec / 4, RETRY_SEC_MIN), RETRY_SEC_MAX);
}
