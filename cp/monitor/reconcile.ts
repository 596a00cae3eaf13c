// Holding the capsules on record against those a host has. The record decides what should be, the
// host what is: capsules that are lost are stopped on record, those that ended on record are destroyed.

import type { SandboxInfo } from "../../proto/gen/hostagent/hostagent_pb.js";
import { decodeId, encodeId, type Id } from "../../proto/ids.ts";
import { DESTROY_TIMEOUT_MS, LIST_TIMEOUT_MS } from "../agents/limits.ts";
import { ENDED_STATES } from "../capsule-states.ts";
import type { CapsuleRow } from "../capsules/capsule.ts";
import type { MoveEvent } from "../capsules/events.ts";
import { moveCapsule, runningColumns } from "../capsules/moves.ts";
import { durableAt } from "../capsules/pause.ts";
import { databaseNow } from "../db/time.ts";
import { SYSTEM_ACTOR } from "../events/outbox.ts";
import type { OperationDeps } from "../operations/deps.ts";
import {
  adoptOfDeletedHosts,
  countSent,
  type HostToAsk,
  selectCapsulesOfHost,
  selectHostsToAsk,
  updateDiskUsed,
  updateDurable,
  updateLastActive,
} from "./queries.ts";
import { lookAfterUnknown, type UnknownPolicy } from "./unknown.ts";

const MIB = 1024 * 1024;
/** On record of what its host did not have any more: it may still come back. */
const LOST_REASON = "its host no longer has the capsule";

export interface ReconcileCounts extends Record<string, number> {
  lost: number;
  paused: number;
  restored: number;
  destroyed: number;
  unknown: number;
  quarantined: number;
}

export const NOTHING: Readonly<ReconcileCounts> = {
  ...{ lost: 0, paused: 0, restored: 0, destroyed: 0 },
  ...{ unknown: 0, quarantined: 0 },
};

/** Hosts whose capsules can be held against the record. */
export async function hostsToAsk(deps: OperationDeps): Promise<HostToAsk[]> {
  return await selectHostsToAsk(deps.db);
}

/** One pass over the capsules of one host. Throws when its agent does not answer. */
export async function reconcileHost(
  deps: OperationDeps,
  host: HostToAsk,
  policy: UnknownPolicy,
): Promise<ReconcileCounts> {
  // What moves after this moment may not be in the agent's answer yet.
  const asOf = await databaseNow(deps.db);
  const agent = deps.agents.at(host);
  const { sandboxes } = await agent.listSandboxes(
    {},
    { timeoutMs: LIST_TIMEOUT_MS, signal: deps.ending },
  );
  const onHost = new Map<Id<"capsule">, SandboxInfo>();
  for (const sandbox of sandboxes) {
    const id = decodeId("capsule", sandbox.sandboxId);
    if (id !== null) onHost.set(id, sandbox);
  }
  const ids = [...onHost.keys()];
  if (ids.length > 0) await adoptOfDeletedHosts(deps.db, { hostId: host.id, ids });
  const rows = (await selectCapsulesOfHost(deps.db, { hostId: host.id, ids })).filter(
    // What another host has on record is another capsule, whatever its id.
    (row) => row.hostId === host.id,
  );

  const counts = { ...NOTHING };
  const known = new Map(rows.map((row) => [row.id, row]));
  for (const row of rows) {
    const change = await align(deps, row, { reported: onHost.get(row.id), asOf });
    if (change !== null) counts[change] = (counts[change] ?? 0) + 1;
  }
  const leftovers: Id<"capsule">[] = [];
  const unclaimed = new Map<Id<"capsule">, SandboxInfo>();
  for (const [id, reported] of onHost) {
    const row = known.get(id);
    if (row === undefined || isGivenUp(row)) unclaimed.set(id, reported);
    else if (isLeftover(row, reported)) leftovers.push(id);
  }
  counts.destroyed = await destroyLeftovers(deps, host, leftovers);
  const unknown = await lookAfterUnknown(deps, host, { found: unclaimed, policy });
  const own = [...onHost].filter(([id]) => known.has(id));
  await takeOverActivity(deps, own);
  await takeOverDurability(deps, own, asOf);
  await takeOverDiskUsed(deps, own);
  await takeOverSent(deps, own);
  return { ...counts, ...unknown, destroyed: counts.destroyed + unknown.destroyed };
}

/** Moves one capsule to where its host has it. What was paused is never called lost. */
async function align(
  deps: OperationDeps,
  row: CapsuleRow,
  { reported, asOf }: { reported: SandboxInfo | undefined; asOf: Date },
): Promise<"lost" | "paused" | "restored" | null> {
  if (row.status === "paused") {
    if (reported?.status !== "running") return null;
    return (await resumeOnRecord(deps, row, { reported, asOf })) ? "restored" : null;
  }
  if (row.status !== "running" && row.status !== "missing") return null;
  if (reported === undefined) return (await stopLost(deps, row, asOf)) ? "lost" : null;
  // A VMM that ended leaves a disk, and often a memory of before: the owner decides about them.
  if (reported.status === "paused" || reported.status === "error") {
    return (await pauseOnRecord(deps, row, { reported, asOf })) ? "paused" : null;
  }
  if (row.status === "missing" && reported.status === "running") {
    return (await restore(deps, row, reported)) ? "restored" : null;
  }
  return null;
}

/**
 * Its host paused it, because nobody used it or because it was told to while we were away, or its
 * VMM ended: the reason on record says so.
 */
async function pauseOnRecord(
  deps: OperationDeps,
  row: CapsuleRow,
  { reported, asOf }: { reported: SandboxInfo; asOf: Date },
): Promise<boolean> {
  const isExpired = reported.status === "paused" && reported.pauseReason === "ttl_expired";
  const event: MoveEvent = {
    type: "capsule.pause",
    outcome: "success",
    actor: SYSTEM_ACTOR,
    reason: isExpired ? "ttl_expired" : "host_state_sync",
    isInferred: !isExpired,
  };
  const set = { durableAt: durableAt(reported), reason: reported.reason };
  const move = { id: row.id, from: row.status, to: "paused", set, event } as const;
  return (await moveCapsule(deps.db, { ...move, unmovedSince: asOf })) !== undefined;
}

/** A resume that nobody here waits for any more has reached the host. */
async function resumeOnRecord(
  deps: OperationDeps,
  row: CapsuleRow,
  { reported, asOf }: { reported: SandboxInfo; asOf: Date },
): Promise<boolean> {
  const event: MoveEvent = {
    type: "capsule.resume",
    outcome: "success",
    actor: SYSTEM_ACTOR,
    reason: "host_state_sync",
    isInferred: true,
  };
  const set = { ...runningColumns(reported), durableAt: null, reason: "" };
  const move = { id: row.id, from: "paused", to: "running", set, event } as const;
  return (await moveCapsule(deps.db, { ...move, unmovedSince: asOf })) !== undefined;
}

/** The host answers and does not have it. */
async function stopLost(deps: OperationDeps, row: CapsuleRow, asOf: Date): Promise<boolean> {
  const reason = LOST_REASON;
  const event: MoveEvent = {
    type: "capsule.destroy",
    outcome: "success",
    actor: SYSTEM_ACTOR,
    reason: "orphaned",
    isInferred: true,
  };
  const move = { id: row.id, from: row.status, to: "stopped", set: { reason }, event } as const;
  const moved = await moveCapsule(deps.db, { ...move, unmovedSince: asOf });
  if (moved !== undefined) {
    deps.log.warn("capsule was lost", { capsule: encodeId("capsule", row.id), reason });
  }
  return moved !== undefined;
}

async function restore(
  deps: OperationDeps,
  row: CapsuleRow,
  reported: SandboxInfo,
): Promise<boolean> {
  const { id, status: from, startedAt } = row;
  const isFirst = startedAt === null;
  const event: MoveEvent = {
    type: isFirst ? "capsule.create" : "capsule.state.changed",
    outcome: isFirst ? "success" : "",
    actor: SYSTEM_ACTOR,
    reason: "restored_after_host_recovery",
    isInferred: true,
  };
  const { hostIp, metadata, ...times } = runningColumns(reported);
  const set = { hostIp, metadata, ...(isFirst ? times : {}) };
  return (await moveCapsule(deps.db, { id, from, to: "running", set, event })) !== undefined;
}

/** Its host did not have it and has it again: nobody asked for its end. */
function isGivenUp(row: CapsuleRow): boolean {
  return row.status === "stopped" && row.reason === LOST_REASON;
}

/** On the host, but ended on record. */
function isLeftover(row: CapsuleRow, reported: SandboxInfo): boolean {
  if (ENDED_STATES.some((state) => state === row.status)) return true;
  // A create that failed leaves nothing to come back from, unlike a capsule that ran.
  return reported.status === "error" && row.status === "starting";
}

async function destroyLeftovers(
  deps: OperationDeps,
  host: HostToAsk,
  ids: readonly Id<"capsule">[],
): Promise<number> {
  const agent = deps.agents.at(host);
  const destroyed = await Promise.all(
    ids.map(async (id) => {
      const sandboxId = encodeId("capsule", id);
      try {
        const options = { timeoutMs: DESTROY_TIMEOUT_MS, signal: deps.ending };
        await agent.destroySandbox({ sandboxId }, options);
        deps.log.info("leftover destroyed", { capsule: sandboxId, host: host.id });
        return true;
      } catch (error) {
        deps.log.warn("a leftover is not destroyed yet", { capsule: sandboxId, error });
        return false;
      }
    }),
  );
  return destroyed.filter(Boolean).length;
}

async function takeOverActivity(
  deps: OperationDeps,
  onHost: readonly (readonly [Id<"capsule">, SandboxInfo])[],
): Promise<void> {
  const active = onHost
    .filter(([, reported]) => reported.lastActiveAtUnix > 0n)
    .map(([id, reported]) => ({ id, unixSec: Number(reported.lastActiveAtUnix) }));
  if (active.length > 0) await updateLastActive(deps.db, active);
}

async function takeOverDiskUsed(
  deps: OperationDeps,
  onHost: readonly (readonly [Id<"capsule">, SandboxInfo])[],
): Promise<void> {
  const used = onHost.flatMap(([id, { diskUsedBytes }]) =>
    diskUsedBytes === undefined ? [] : [{ id, mib: Math.ceil(Number(diskUsedBytes) / MIB) }],
  );
  if (used.length > 0) await updateDiskUsed(deps.db, used);
}

async function takeOverSent(
  deps: OperationDeps,
  onHost: readonly (readonly [Id<"capsule">, SandboxInfo])[],
): Promise<void> {
  const sent = onHost.flatMap(([id, { sentBytes }]) =>
    sentBytes === undefined || sentBytes === 0n ? [] : [{ id, bytes: Number(sentBytes) }],
  );
  if (sent.length > 0) await countSent(deps.db, sent);
}

async function takeOverDurability(
  deps: OperationDeps,
  onHost: readonly (readonly [Id<"capsule">, SandboxInfo])[],
  asOf: Date,
): Promise<void> {
  const durable = onHost
    .filter(([, reported]) => reported.status === "paused" && reported.durableAtUnix > 0n)
    .map(([id, reported]) => ({ id, unixSec: Number(reported.durableAtUnix) }));
  if (durable.length > 0) await updateDurable(deps.db, durable, asOf);
}
