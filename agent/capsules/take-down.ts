// Removes everything that a capsule has on the host, whatever of it there is: after a destroy, a create
// that failed, or a crash in the middle of either. Each part is idempotent, so it may run again.

import { readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { VmmProcess } from "../vmm/vmm.ts";
import { capsuleRunDir, consoleLogPath } from "./capsule-paths.ts";
import type { HostParts } from "./host-parts.ts";

export interface CapsuleRemains {
  readonly id: string;
  readonly slot: number | null;
  /** Null: not known to this process; looked for in the capsule's run directory. */
  readonly vmm: VmmProcess | null;
}

/**
 * Ends the VMM, then removes disk, cgroup, run directory, console logs and network slot, in the
 * reverse order of a create. Throws at the first part that cannot be removed; the rest stays, so that
 * nothing is removed under a VMM that lives.
 */
export async function takeDown(parts: HostParts, remains: CapsuleRemains): Promise<void> {
  const { id, slot } = remains;
  const runDir = capsuleRunDir(parts.runDir, id);
  const vmm = remains.vmm ?? (await parts.vmm.adopt(runDir));
  await vmm?.kill();
  parts.failpoints.reach("destroy.after-vmm");

  await parts.disks.remove(id);
  parts.failpoints.reach("destroy.after-disk");

  await parts.cgroups.remove(id);
  await rm(runDir, { recursive: true, force: true });
  await removeConsoleLogs(consoleLogPath(parts.logsDir, id));
  parts.failpoints.reach("destroy.after-cgroup");

  if (slot !== null) await parts.network.release(slot);
  parts.failpoints.reach("destroy.after-network");
}

/** The log and what its rotation left beside it. */
async function removeConsoleLogs(path: string): Promise<void> {
  for (const name of await readdir(dirname(path))) {
    if (name.startsWith(basename(path))) await rm(join(dirname(path), name), { force: true });
  }
}
