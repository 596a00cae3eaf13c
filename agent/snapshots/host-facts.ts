// What of this host a snapshot depends on.

import { readFile } from "node:fs/promises";
import { release } from "node:os";
import type { Vmm } from "../vmm/vmm.ts";

/** linux/auxvec.h */
const AT_PAGESZ = 6n;

export interface HostFacts {
  readonly vmm: { readonly name: string; readonly version: string; readonly accel: string };
  /** Model and a digest of the features, of the processor that guests see. */
  readonly cpu: string;
  /** Told, and not compared: a newer kernel takes what an older one's KVM saved. */
  readonly kernel: string;
  readonly pageBytes: number;
  /** Of this start of the host. */
  readonly bootId: string;
}

export async function readHostFacts(
  vmm: Pick<Vmm, "name" | "version" | "accel" | "cpu">,
): Promise<HostFacts> {
  const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  return {
    vmm: { name: vmm.name, version: vmm.version, accel: vmm.accel },
    // An emulated processor is the VMM's, whatever it runs on, and so is one that it was named.
    cpu: vmm.accel === "tcg" ? "emulated" : (vmm.cpu ?? (await readProcessor())),
    kernel: release(),
    pageBytes: await readPageBytes(),
    bootId,
  };
}

/** From what the kernel tells every program at its start (getauxval(3)): pairs of words, a kind and its value. */
async function readPageBytes(): Promise<number> {
  const words = new BigUint64Array(Uint8Array.from(await readFile("/proc/self/auxv")).buffer);
  for (let i = 0; i + 1 < words.length; i += 2) {
    if (words[i] === AT_PAGESZ) return Number(words[i + 1]);
  }
  throw new Error("/proc/self/auxv names no page size");
}

async function readProcessor(): Promise<string> {
  const text = await readFile("/proc/cpuinfo", "utf8");
  const model = /^model name\s*:\s*(.*)$/m.exec(text)?.[1] ?? "unknown";
  const flags = /^flags\s*:\s*(.*)$/m.exec(text)?.[1] ?? "";
  const digest = new Bun.CryptoHasher("sha256").update(flags).digest("hex").slice(0, 16);
  return `${model.slice(0, 200)} ${digest}`;
}
