// What the host has to offer, as it is reported at registration.

import { statfs } from "node:fs/promises";
import { arch, availableParallelism, totalmem } from "node:os";

const MB = 1024 * 1024;
const GB = 1024 * MB;
// The names that the control plane knows are Go's.
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

export interface HostSpecs {
  readonly arch: string;
  readonly cpu_cores: number;
  readonly memory_mb: number;
  /** Of the file system that holds the capsules' disks. */
  readonly disk_gb: number;
}

export async function readHostSpecs(dir: string): Promise<HostSpecs> {
  const disk = await statfs(dir);
  return {
    arch: ARCHITECTURES[arch()] ?? arch(),
    cpu_cores: availableParallelism(),
    memory_mb: Math.floor(totalmem() / MB),
    disk_gb: Math.floor((disk.blocks * disk.bsize) / GB),
  };
}
