// How much memory the platform's programs hold.

import { readFile } from "node:fs/promises";
import type { Platform } from "../../scripts/dev/settings.ts";

export interface ProgramSizes {
  readonly cpMib: number;
  readonly agentMib: number;
}

/** Resident memory; throws when one of them does not run. */
export async function programSizes(dev: Platform): Promise<ProgramSizes> {
  const sizeMib = async (name: string) => {
    const record = await dev.processes.running(name);
    const status = await readFile(`/proc/${record?.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
  };
  return { cpMib: await sizeMib("cp"), agentMib: await sizeMib("agent") };
}

/**
 * What a program may grow by while something of any size goes through it: garbage, which goes up and down by
 * some 100 MiB where a program has just started (82 after 64 MiB, 28 after 512).
 */
export const GROWTH_MIB_MAX = 160;
