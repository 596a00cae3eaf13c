// What an agent does first: takes up the capsules that outlived the last one, undoes what that one left
// half made, finishes what it was removing, and learns which capsules died meanwhile.

import { readdir, rm } from "node:fs/promises";
import { CAPTURE_STEP, type CapsuleRow } from "../journal/journal.ts";
import { capsuleRunDir } from "../machine/capsule-paths.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { liveCapsule } from "../machine/live-capsule.ts";
import type { VmmProcess } from "../vmm/vmm.ts";
import type { Capsules } from "./capsules.ts";
import { planRecovery } from "./recovery-plan.ts";

const CAPSULE_ID = /^cl-[0-9a-z]{25}$/;

/**
 * Brings journal and host to agree. Returns once running capsules answer again; what is to be removed is
 * removed behind it, and listed as starting or stopping until then. What cannot be removed stays as a
 * capsule in error, for a destroy to try again.
 */
export async function recover(parts: HostParts, capsules: Capsules): Promise<void> {
  const rows = parts.journal.rows();
  const traces = [...(await readdir(parts.runDir)), ...(await parts.cgroups.list())];
  const alive = await findAlive(parts, rows);
  const plan = planRecovery(rows, {
    alive: new Set(alive.keys()),
    traces: [...new Set(traces)].filter((name) => CAPSULE_ID.test(name)),
    disks: await parts.disks.list(),
  });

  // What a resume replaced is wanted again if it did not succeed.
  for (const { spec, state } of rows) {
    await (state === "resuming" ? parts.disks.putBack(spec.id) : parts.disks.dropReplaced(spec.id));
  }
  for (const row of plan.adopt) {
    const vmm = alive.get(row.spec.id);
    if (!vmm) continue;
    // A snapshot stops a running capsule for a moment: its processes first, then all of it.
    if (row.step === CAPTURE_STEP || (await isStopped(parts, row, vmm)))
      capsules.finish(row, "running", vmm);
    else capsules.adopt(row, vmm);
  }
  for (const row of plan.pauses) capsules.finish(row, row.state, alive.get(row.spec.id) ?? null);
  for (const row of plan.died) keepDead(parts, capsules, row);
  for (const { spec, step } of [...plan.undo, ...plan.finish]) {
    parts.log.info("recovery.removing", { capsule: spec.id, step });
  }
  // Their failures are logged where they happen, and stand in the list of capsules.
  for (const row of plan.undo) capsules.undo(row).catch(() => {});
  for (const row of plan.finish) {
    capsules.keep(row, { status: "stopping", reason: "" });
    capsules.destroy(row.spec.id).catch(() => {});
  }
  for (const id of plan.strangers) await takeDownStranger(parts, id);
  for (const id of plan.unknownDisks) parts.log.warn("recovery.unknown-disk", { capsule: id });
  parts.log.info("recovery.done", {
    adopted: plan.adopt.length,
    pauses: plan.pauses.length,
    undone: plan.undo.length,
    finished: plan.finish.length,
    died: plan.died.length,
  });
}

async function findAlive(
  parts: HostParts,
  rows: readonly CapsuleRow[],
): Promise<Map<string, VmmProcess>> {
  const alive = new Map<string, VmmProcess>();
  for (const { spec, state } of rows) {
    if (state === "creating" || state === "destroying" || state === "failed") continue;
    const vmm = await parts.vmm.adopt(capsuleRunDir(parts.runDir, spec.id));
    if (vmm) alive.set(spec.id, vmm);
  }
  return alive;
}

async function isStopped(
  parts: HostParts,
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

function keepDead(parts: HostParts, capsules: Capsules, row: CapsuleRow): void {
  const reason = row.reason || "its VMM ended while no agent ran";
  if (row.state !== "failed") parts.journal.markFailed(row.spec.id, reason);
  capsules.keep({ ...row, pause: null }, { status: "error", reason });
  parts.log.warn("recovery.died", { capsule: row.spec.id, reason });
}

/** Its disk stays: it may be the only copy of somebody's data. */
async function takeDownStranger(parts: HostParts, id: string): Promise<void> {
  const runDir = capsuleRunDir(parts.runDir, id);
  const vmm = await parts.vmm.adopt(runDir);
  await vmm?.kill();
  await parts.cgroups.remove(id);
  await rm(runDir, { recursive: true, force: true });
  parts.log.warn("recovery.stranger", { capsule: id });
}
