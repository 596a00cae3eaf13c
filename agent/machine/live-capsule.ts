// A capsule that has a VMM, as the snapshots want it told.

import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { LiveCapsule } from "../snapshots/snapshots.ts";
import type { VmmProcess } from "../vmm/vmm.ts";
import { capsuleRunDir } from "./capsule-paths.ts";
import type { HostParts } from "./host-parts.ts";

/** What of the host tells of it. */
export type LiveParts = Pick<HostParts, "disks" | "guestKernel" | "runDir">;

export function liveCapsule(
  parts: LiveParts,
  spec: CapsuleSpec,
  process: VmmProcess | null,
): LiveCapsule {
  if (process === null) throw new Error(`unreachable: ${spec.id} has no VMM`);
  return {
    capsuleId: spec.id,
    runDir: capsuleRunDir(parts.runDir, spec.id),
    process,
    rootDisk: parts.disks.live(spec.id),
    shape: { vcpus: spec.vcpus, memoryMib: spec.memoryMib },
    kernelVersion: parts.guestKernel.version,
  };
}
