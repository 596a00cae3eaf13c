// What an agent does first: takes up the capsules that outlived the last one, undoes what that one left
// half made, finishes what it was removing, and learns which capsules died meanwhile.

import { readdir, rm } from "node:fs/promises";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { CapsuleRow } from "../journal/journal.ts";
import { capsuleRunDir } from "../machine/capsule-paths.ts";
import { holdDevices, holdShares } from "../machine/hold-shares.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { type LiveParts, liveCapsule } from "../machine/live-capsule.ts";
import type { HeldParts } from "../machine/take-down.ts";
import type { VmmProcess } from "../vmm/vmm.ts";
import type { Capsules } from "./capsules.ts";
import { type Decision, decide, findUnknown } from "./recovery-plan.ts";

const CAPSULE_ID = /^cl-[0-9a-z]{25}$/;

type RecoveryParts = LiveParts & HeldParts & Pick<HostParts, "log" | "shares">;

/**
 * Brings journal and host to agree. Returns once running capsules answer again; what is to be removed is
 * removed behind it, and listed as starting or stopping until then. What cannot be removed stays as a
 * capsule in error, for a destroy to try again.
 */
export async function recover(parts: RecoveryParts, capsules: Capsules): Promise<void> {
  const rows = parts.journal.rows();
  const traces = [...(await readdir(parts.runDir)), ...(await parts.cgroups.list())];
  const alive = await findAlive(parts, rows);
  const unknown = findUnknown(rows, {
    traces: [...new Set(traces)].filter((name) => CAPSULE_ID.test(name)),
    disks: await parts.disks.list(),
  });

  for (const row of rows) await settleReplaced(parts, row);
  const counts: Partial<Record<Decision, number>> = {};
  for (const row of rows) {
    const vmm = alive.get(row.spec.id) ?? null;
    const decision = await decideFor(parts, row, vmm);
    counts[decision] = (counts[decision] ?? 0) + 1;
    parts.log.info("recovery.capsule", { capsule: row.spec.id, state: row.state, decision });
    if (vmm !== null && row.slot !== null) await holdAnew(parts, row.spec, row.slot);
    capsules.takeUp(row, vmm, decision);
  }
  for (const id of unknown.strangers) await takeDownStranger(parts, id);
  for (const id of unknown.disks) parts.log.warn("recovery.unknown-disk", { capsule: id });
  parts.log.info("recovery.done", { ...counts, strangers: unknown.strangers.length });
}

/** The settings may have changed. A capsule goes on with what it was held to rather than not at all. */
async function holdAnew(parts: RecoveryParts, spec: CapsuleSpec, slot: number): Promise<void> {
  try {
    await holdShares(parts, spec, { slot, before: "unknown" });
    await holdDevices(parts, spec, "unknown");
  } catch (error) {
    parts.log.error("recovery.shares-not-held", { capsule: spec.id, error });
  }
}

/** What a resume replaced is wanted again if it did not succeed, and is kept if it did. */
async function settleReplaced(
  { disks, snapshots }: RecoveryParts,
  { spec: { id }, state }: CapsuleRow,
): Promise<void> {
  if (state === "resuming") return disks.putBack(id);
  const [newest] = await snapshots.listOf(id);
  await disks.setAside(id, newest?.number ?? 0);
}

async function decideFor(
  parts: RecoveryParts,
  row: CapsuleRow,
  vmm: VmmProcess | null,
): Promise<Decision> {
  const decision = decide(row, { isAlive: vmm !== null });
  // Whatever stopped it, it is to run.
  if (decision === "adopt" && vmm && (await isStopped(parts, row, vmm))) return "run on";
  return decision;
}

async function findAlive(
  parts: RecoveryParts,
  rows: readonly CapsuleRow[],
): Promise<Map<string, VmmProcess>> {
  const alive = new Map<string, VmmProcess>();
  for (const { spec, state } of rows) {
    if (state === "starting" || state === "stopping" || state === "error") continue;
    const vmm = await parts.vmm.adopt(capsuleRunDir(parts.runDir, spec.id));
    if (vmm) alive.set(spec.id, vmm);
  }
  return alive;
}

async function isStopped(
  parts: RecoveryParts,
  { spec }: CapsuleRow,
  vmm: VmmProcess,
): Promise<boolean> {
  try {
    return (await parts.snapshots.state(liveCapsule(parts, spec, vmm))) !== "running";
  } catch (error) {
    // A VMM that does not answer is found out by its guest.
    parts.log.warn("recovery.unclear", { capsule: spec.id, error });
    return false;
  }
}

/** Its disk stays: it may be the only copy of somebody's data. */
async function takeDownStranger(parts: RecoveryParts, id: string): Promise<void> {
  const runDir = capsuleRunDir(parts.runDir, id);
  const vmm = await parts.vmm.adopt(runDir);
  await vmm?.kill();
  await parts.cgroups.remove(id);
  await rm(runDir, { recursive: true, force: true });
  parts.log.warn("recovery.stranger", { capsule: id });
}
