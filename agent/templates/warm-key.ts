// What a warm snapshot and a create that may restore it have in common.

import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { HostFacts } from "../snapshots/host-facts.ts";

export interface WarmKind {
  readonly imageSha256: string;
  /** The disk cannot grow after the boot. */
  readonly shape: Pick<CapsuleSpec, "vcpus" | "memoryMib" | "diskMib">;
  readonly guestKernel: string;
  /** Programs of a guest that has booted use what its processor had then. */
  readonly host: Pick<HostFacts, "vmm" | "cpu" | "pageBytes">;
}

/** The name of the snapshot's directory: another one for all that is different. */
export function warmKey({ imageSha256, shape, guestKernel, host }: WarmKind): string {
  const { vcpus, memoryMib, diskMib } = shape;
  const { vmm, cpu, pageBytes } = host;
  const same = [
    ...[imageSha256, vcpus, memoryMib, diskMib, guestKernel],
    ...[vmm.name, vmm.version, vmm.accel, cpu, pageBytes],
  ];
  return new Bun.CryptoHasher("sha256").update(same.join("\n")).digest("hex");
}
