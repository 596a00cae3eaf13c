// Limits as the files of each cgroup version say them.

import type { Hierarchy } from "./hierarchies.ts";

export interface CgroupLimits {
  /** Everything the VMM holds, guest RAM and page cache included. */
  readonly memoryBytes: number;
  /** In CPUs; may be a fraction. */
  readonly cpus: number;
  /** Threads and processes. */
  readonly pids: number;
}

export interface LimitFile {
  readonly name: string;
  readonly value: string;
  /** A kernel built without swap accounting does not have it; then there is nothing to limit. */
  readonly mayBeMissing: boolean;
}

// The kernel's default: shorter makes a guest wait more often, longer makes it wait longer.
const CPU_PERIOD_US = 100_000;

/**
 * The files to write, in order, for those controllers that the tree has; shares of the disk change and have a file
 * of their own (disk-throttle.ts). Swap is not a second
 * allowance: the limit is on memory and swap together.
 */
export function limitFiles(hierarchy: Hierarchy, limits: CgroupLimits): LimitFile[] {
  const quotaUs = Math.round(limits.cpus * CPU_PERIOD_US);
  const files = {
    1: {
      memory: [
        required("memory.limit_in_bytes", limits.memoryBytes),
        optional("memory.memsw.limit_in_bytes", limits.memoryBytes),
      ],
      cpu: [required("cpu.cfs_period_us", CPU_PERIOD_US), required("cpu.cfs_quota_us", quotaUs)],
      pids: [required("pids.max", limits.pids)],
      io: [],
    },
    2: {
      memory: [required("memory.max", limits.memoryBytes), optional("memory.swap.max", 0)],
      cpu: [required("cpu.max", `${quotaUs} ${CPU_PERIOD_US}`)],
      pids: [required("pids.max", limits.pids)],
      io: [],
    },
  }[hierarchy.version];
  return hierarchy.controllers.flatMap((controller) => files[controller]);
}

function required(name: string, value: number | string): LimitFile {
  return { name, value: String(value), mayBeMissing: false };
}

function optional(name: string, value: number | string): LimitFile {
  return { name, value: String(value), mayBeMissing: true };
}
