// A capsule that has a VMM, as far as snapshots need to know it.

import type { LiveDisk } from "../rootfs/root-disks.ts";
import type { CapsuleShape, VmmProcess } from "../vmm/vmm.ts";

export interface LiveCapsule {
  readonly capsuleId: string;
  readonly runDir: string;
  readonly process: VmmProcess;
  readonly rootDisk: LiveDisk;
  readonly shape: CapsuleShape;
  readonly kernelVersion: string;
}
