// Resuming a paused capsule on the host that has it. Of several resumes at once one finds the row
// `paused`; it takes the rest of the capsule's place on its host in the same transaction.

import type { ResumeSandboxResponse, SandboxInfo } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId, type Id } from "../../proto/ids.ts";
import { RESUME_TIMEOUT_MS } from "../agents/limits.ts";
import type { Begun } from "../begun.ts";
import { AppError } from "../errors.ts";
import type { EventActor } from "../events/outbox.ts";
import type { Claim } from "../idempotency/answer-once.ts";
import { holdTeam, requireRoom } from "../limits/placing.ts";
import { lockHost } from "../scheduler/host-loads.ts";
import { hasRoom, PAUSED_DISK_SHARE, PAUSED_MEMORY_SHARE } from "../scheduler/placement.ts";
import type { CapsuleRow } from "./capsule.ts";
import type { CapsuleDeps } from "./deps.ts";
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
import type { ResumeSource } from "./lifecycle.ts";
import { moveBesidesSnapshots, moveCapsule, moveFromAny, runningColumns, toldAs } from "./moves.ts";

export interface ResumeRequest {
  readonly actor: EventActor;
  /** Null: whatever is newest. */
  readonly from: ResumeSource | null;
  readonly claim: Claim<"capsule">;
}

/**
 * Begins to resume the paused capsule. Throws, or ends with, `invalid_state` when it is not paused
 * any more or nothing is left that could be resumed, the 402 of a limit of the team, `host_unavailable`,
 * `no_hosts_available` when its host has no room for it, and what the host refused it with; it is paused then.
 * When the host does not say what became of it, it stays `resuming` until it does.
 */
export async function resumeCapsule(
  deps: CapsuleDeps,
  { capsule, agent }: RunningCapsule,
  { actor, from, claim }: ResumeRequest,
): Promise<Begun<Id<"capsule">, CapsuleRow>> {
  const row = await beginResuming(deps, capsule, { actor, claim });
  const done = runChange(deps, resumeChange(deps, { from }), { row, agent, actor });
  return { ids: [row.id], done };
}

/** How a resume is asked for and how it ends. */
export function resumeChange(
  deps: CapsuleDeps,
  { from }: Pick<ResumeRequest, "from">,
): HostChange<ResumeSandboxResponse> {
  return {
    verb: "resume",
    from: "paused",
    to: "running",
    unheard: "paused",
    timeoutMs: RESUME_TIMEOUT_MS,
    ask: async (agent, row, options) =>
      await agent.resumeSandbox({ ...toAgent(deps, row), from: from ?? "" }, options),
    record: async (row, reported, ending) => await recordRunning(deps, row, { reported, ending }),
    settle: async (row, host) => await settleResuming(deps, row, host),
  };
}

async function settleResuming(
  deps: CapsuleDeps,
  row: CapsuleRow,
  { reported, isOverdue, ending }: Reported,
): Promise<CapsuleRow | undefined> {
  if (reported?.status === "running") return await recordRunning(deps, row, { reported, ending });
  const isAtIt = reported !== undefined && !["error", "paused"].includes(reported.status);
  if (isAtIt && !isOverdue) {
    await lookAgain(deps, row);
    return undefined;
  }
  const { id, operationId } = row;
  const event = toldAs({ type: "capsule.resume", outcome: "error" }, ending);
  const set = { reason: reported?.reason ?? "" };
  return await moveCapsule(deps.db, {
    ...{ id, operationId, set, event },
    from: "resuming",
    to: "paused",
  });
}

async function beginResuming(
  deps: CapsuleDeps,
  capsule: CapsuleRow,
  { actor, claim }: Pick<ResumeRequest, "actor" | "claim">,
): Promise<CapsuleRow> {
  return await deps.db.transaction(async (tx) => {
    const { teamId } = capsule;
    const team = await holdTeam(tx, { teamId, defaults: deps.teamLimits });
    const used = await team.capsuleUse();
    await claim?.(tx, [capsule.id]);
    const host = await lockHost(tx, capsule.hostId);
    if (host === undefined) {
      throw new AppError("host_unavailable", "the capsule's host takes no capsules at present", {
        reason: "host_draining",
      });
    }
    // What is set aside for it while it rests counts as used already.
    const missing = {
      vcpus: capsule.vcpus,
      memoryMb: capsule.memoryMb * (1 - PAUSED_MEMORY_SHARE),
      diskSizeMb: capsule.diskSizeMb * (1 - PAUSED_DISK_SHARE),
    };
    const row = await moveBesidesSnapshots(tx, {
      id: capsule.id,
      from: "paused",
      to: "resuming",
      set: changing(deps, RESUME_TIMEOUT_MS),
      event: { type: "capsule.state.changed", outcome: "", actor },
    });
    if (row === undefined) throw await movedOn(tx, capsule.id, ["paused"]);
    const { vcpus, memoryMb } = missing;
    requireRoom(team.limits, used, { capsules: 1, vcpus, memoryMb: Math.floor(memoryMb) });
    if (hasRoom(host, missing)) return row;
    throw new AppError("no_hosts_available", "the capsule's host has no room for it at present");
  });
}

function toAgent(deps: CapsuleDeps, row: CapsuleRow) {
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
  deps: CapsuleDeps,
  { id, operationId }: CapsuleRow,
  { reported, ending }: { reported: ResumeSandboxResponse | SandboxInfo; ending: Ending },
): Promise<CapsuleRow | undefined> {
  const { resumedFrom } = reported;
  const columns = runningColumns(reported);
  const metadata =
    resumedFrom === "" ? columns.metadata : { ...columns.metadata, resumed_from: resumedFrom };
  const set = { ...columns, metadata, durableAt: null, reason: "" };
  const event = toldAs({ type: "capsule.resume", outcome: "success" }, ending);
  const move = { id, to: "running", operationId, set, event } as const;
  // `paused`: the monitor took the host for dead meanwhile, but it has answered us.
  return await moveFromAny(deps.db, ["resuming", "paused"], move);
}
