// Removes what a capsule has on the host, whatever of it there is: after a destroy, a pause, a create or
// resume that failed, or a crash in the middle of them. Each part is idempotent, so it may run again.

import { readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { VmmProcess } from "../vmm/vmm.ts";
import { capsuleRunDir, consoleLogPath } from "./capsule-paths.ts";
import type { HostParts } from "./host-parts.ts";

/** What of the host holds something of a capsule. */
export type HeldParts = Pick<
  HostParts,
  | "vmm"
  | "snapshots"
  | "disks"
  | "cgroups"
  | "network"
  | "journal"
  | "runDir"
  | "logsDir"
  | "failpoints"
>;

export interface CapsuleRemains {
  readonly id: string;
  readonly slot: number | null;
  /** Null: not known to this process; looked for in the capsule's run directory. */
  readonly vmm: VmmProcess | null;
}

/**
 * Ends the VMM, then removes memory, disk, cgroup, run directory, console logs and network slot, in the
 * reverse order of a create. `forget` is called when nothing but the slot is left: the journal MUST not name
 * a slot that another capsule may have. Throws at the first part that cannot be removed; the rest stays, so
 * that nothing is removed under a VMM that lives.
 */
export async function takeDown(
  parts: HeldParts,
  remains: CapsuleRemains,
  forget: () => void,
): Promise<void> {
  const { id, slot } = remains;
  const { failpoints } = parts;
  await parts.disks.abandon(id);
  await endVmm(parts, remains);
  failpoints.reach("destroy.after-vmm");

  await parts.snapshots.removeCapsule(id);
  failpoints.reach("destroy.after-memory");
  await parts.disks.remove(id);
  failpoints.reach("destroy.after-disk");

  await removeRunning(parts, id);
  await removeConsoleLogs(consoleLogPath(parts.logsDir, id));
  failpoints.reach("destroy.after-cgroup");
  forget();
  failpoints.reach("destroy.after-finish");

  if (slot !== null) await parts.network.release(slot);
  failpoints.reach("destroy.after-network");
}

/** What becomes of the disk of a capsule that is to rest: one that another was put in place of may come back. */
export type RestingDisk = "kept" | "put back";

/** The same for a capsule that is to rest: disk, memory on disk and console logs stay. */
export async function freeHost(
  parts: HeldParts,
  remains: CapsuleRemains,
  disk: RestingDisk,
): Promise<void> {
  const { id, slot } = remains;
  const { failpoints } = parts;
  await endVmm(parts, remains);
  failpoints.reach("seal.after-vmm");
  await parts.snapshots.forgetVmm(id);
  await parts.disks.detach(id);
  // What it was replaced by belongs to the slot's uid.
  if (disk === "put back") await parts.disks.putBack(id);
  await removeRunning(parts, id);
  failpoints.reach("seal.after-cgroup");
  if (slot === null) return;
  parts.journal.setSlot(id, null);
  await parts.network.release(slot);
  failpoints.reach("seal.after-network");
}

async function endVmm(parts: HeldParts, { id, vmm }: CapsuleRemains): Promise<void> {
  const alive = vmm ?? (await parts.vmm.adopt(capsuleRunDir(parts.runDir, id)));
  await alive?.kill();
}

async function removeRunning(parts: HeldParts, id: string): Promise<void> {
  await parts.cgroups.remove(id);
  await rm(capsuleRunDir(parts.runDir, id), { recursive: true, force: true });
}

/** The log and what its rotation left beside it. */
async function removeConsoleLogs(path: string): Promise<void> {
  for (const name of await readdir(dirname(path))) {
    if (name.startsWith(basename(path))) await rm(join(dirname(path), name), { force: true });
  }
}
