// What of this host a snapshot depends on.

import { readFile } from "node:fs/promises";
import { release } from "node:os";
import type { Vmm } from "../vmm/vmm.ts";

export interface HostFacts {
  readonly vmm: { readonly name: string; readonly version: string; readonly accel: string };
  /** Model and a digest of the features, of the processor that guests see. */
  readonly cpu: string;
  readonly kernel: string;
  /** Of this start of the host. */
  readonly bootId: string;
}

export async function readHostFacts(
  vmm: Pick<Vmm, "name" | "version" | "accel">,
): Promise<HostFacts> {
  const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  return {
    vmm: { name: vmm.name, version: vmm.version, accel: vmm.accel },
    // An emulated processor is the VMM's, whatever it runs on.
    cpu: vmm.accel === "tcg" ? "emulated" : await readProcessor(),
    kernel: release(),
    bootId,
  };
}

async function readProcessor(): Promise<string> {
  const text = await readFile("/proc/cpuinfo", "utf8");
  const model = /^model name\s*:\s*(.*)$/m.exec(text)?.[1] ?? "unknown";
  const flags = /^flags\s*:\s*(.*)$/m.exec(text)?.[1] ?? "";
  const digest = new Bun.CryptoHasher("sha256").update(flags).digest("hex").slice(0, 16);
  return `${model.slice(0, 200)} ${digest}`;
}
