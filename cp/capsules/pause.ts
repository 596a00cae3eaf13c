// Pausing a capsule. The memory becomes durable behind the answer; since when it is, is a fact of
// its own, which the monitor takes over from the host.

import type { SandboxInfo } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId, type Id } from "../../proto/ids.ts";
import { PAUSE_TIMEOUT_MS } from "../agents/limits.ts";
import type { Begun } from "../begun.ts";
import type { EventActor } from "../events/outbox.ts";
import type { Claim } from "../idempotency/answer-once.ts";
import type { CapsuleRow } from "./capsule.ts";
import type { CapsuleDeps } from "./deps.ts";
import type { MoveEvent } from "./events.ts";
import type { RunningCapsule } from "./find-on-host.ts";
import {
  changing,
  type Ending,
  type HostChange,
  lookAgain,
  movedOn,
  type Reported,
  runChange,
} from "./host-change.ts";
import { type Move, moveBesidesSnapshots, moveCapsule, moveFromAny, toldAs } from "./moves.ts";
import { hasSnapshotUnderWay } from "./queries.ts";

/**
 * Begins to pause the running capsule. Throws, or ends with, `invalid_state` when it is not running any
 * more, what the host refused it with (it then runs on), and `conflict` when it was destroyed meanwhile.
 * When the host does not say what became of it, it stays `pausing` until it does.
 */
export async function pauseCapsule(
  deps: CapsuleDeps,
  { capsule, agent }: RunningCapsule,
  { actor, claim }: { actor: EventActor; claim: Claim<"capsule"> },
): Promise<Begun<Id<"capsule">, CapsuleRow>> {
  const { id } = capsule;
  const move: Move = {
    ...{ id, from: "running", to: "pausing" },
    set: changing(deps, PAUSE_TIMEOUT_MS),
    event: { type: "capsule.state.changed", outcome: "", actor },
  };
  // One statement where that is enough.
  const moved = claim === null ? await moveCapsule(deps.db, move) : undefined;
  const row = moved ?? (await beginPausing(deps, move, claim));
  return { ids: [id], done: runChange(deps, pauseChange(deps), { row, agent, actor }) };
}

async function beginPausing(
  { db }: CapsuleDeps,
  move: Move,
  claim: Claim<"capsule">,
): Promise<CapsuleRow> {
  return await db.transaction(async (tx) => {
    await claim?.(tx, [move.id]);
    const moved = await moveBesidesSnapshots(tx, move);
    if (moved === undefined) throw await movedOn(tx, move.id, ["running"]);
    return moved;
  });
}

/** How a pause is asked for and how it ends. */
export function pauseChange(deps: CapsuleDeps): HostChange<unknown> {
  return {
    verb: "pause",
    from: "running",
    to: "paused",
    unheard: "missing",
    timeoutMs: PAUSE_TIMEOUT_MS,
    ask: async (agent, { id, operationId }, options) =>
      await agent.pauseSandbox({ sandboxId: encodeId("capsule", id), operationId }, options),
    record: async (row, _, ending) => await recordPaused(deps, row, ending),
    settle: async (row, host) => await settlePausing(deps, row, host),
  };
}

/** Since when the pause is durable, as the host tells. */
export function durableAt(reported: SandboxInfo | undefined): Date | null {
  const unixSec = Number(reported?.durableAtUnix ?? 0n);
  return unixSec > 0 ? new Date(unixSec * 1000) : null;
}

async function settlePausing(
  deps: CapsuleDeps,
  row: CapsuleRow,
  { reported, isOverdue, ending }: Reported,
): Promise<CapsuleRow | undefined> {
  const { id, operationId, status: from } = row;
  if (reported === undefined) {
    const reason = "its host lost the capsule while it was paused";
    const event: MoveEvent = {
      type: "capsule.destroy",
      outcome: "success",
      actor: ending.actor,
      reason: "orphaned",
      isInferred: true,
    };
    const set = { reason };
    return await moveCapsule(deps.db, { id, from, to: "stopped", operationId, set, event });
  }
  // One whose VMM ended rests, too, with what is left of it.
  if (reported.status === "paused" || reported.status === "error") {
    return await recordPaused(deps, row, ending, reported);
  }
  // The host lets it wait for the end of a snapshot.
  const isOver = reported.status === "running" && !(await hasSnapshotUnderWay(deps.db, id));
  if (isOver || isOverdue) {
    const event = toldAs({ type: "capsule.pause", outcome: "error" }, ending);
    return await moveCapsule(deps.db, { id, from, to: "running", operationId, event });
  }
  await lookAgain(deps, row);
  return undefined;
}

async function recordPaused(
  deps: CapsuleDeps,
  { id, operationId }: CapsuleRow,
  ending: Ending,
  reported?: SandboxInfo,
): Promise<CapsuleRow | undefined> {
  const event = toldAs({ type: "capsule.pause", outcome: "success" }, ending);
  const set = { durableAt: durableAt(reported), reason: reported?.reason ?? "" };
  const move = { id, to: "paused", operationId, set, event } as const;
  // `missing`: the host fell silent for the monitor meanwhile, but has answered us.
  return await moveFromAny(deps.db, ["pausing", "missing"], move);
}
