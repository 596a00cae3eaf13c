// What a process has used, read from its line in /proc for as long as it lives.

import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import type { ProcessIdentity } from "../keeper/process-identity.ts";

/** The line has 52 fields (proc_pid_stat(5)); 64-bit ones have at most 20 digits. */
const STAT_BYTES_MAX = 2048;
/** Keys of the auxiliary vector, <linux/auxvec.h>. */
const AT_PAGESZ = 6n;
const AT_CLKTCK = 17n;

export interface Usage {
  /** User and system time since its start, all threads. */
  readonly cpuSeconds: number;
  /** Resident set: what VmRSS says. */
  readonly memoryBytes: number;
}

/** The units of /proc on this machine. */
export interface ProcUnits {
  readonly pageBytes: number;
  readonly ticksPerSecond: number;
}

/** Throws if the kernel told this process neither, which it always does. */
export function readProcUnits(): ProcUnits {
  const vector = new BigUint64Array(new Uint8Array(readFileSync("/proc/self/auxv")).buffer);
  const entry = (key: bigint): number => {
    for (let i = 0; i + 1 < vector.length; i += 2) {
      if (vector[i] === key) return Number(vector[i + 1]);
    }
    throw new Error(`unreachable: no key ${key} in the auxiliary vector`);
  };
  return { pageBytes: entry(AT_PAGESZ), ticksPerSecond: entry(AT_CLKTCK) };
}

/**
 * An open look at one process. The file stays open: it means this process and no later one of that
 * pid, and reading it again costs a fifth of finding it again.
 */
export class ProcessUsage implements Disposable {
  readonly #fd: number;
  readonly #process: ProcessIdentity;
  readonly #units: ProcUnits;

  private constructor(fd: number, process: ProcessIdentity, units: ProcUnits) {
    this.#fd = fd;
    this.#process = process;
    this.#units = units;
  }

  /** Null if the process has ended. `procDir` is /proc but in tests. */
  static open(
    process: ProcessIdentity,
    options: { procDir: string; units: ProcUnits },
  ): ProcessUsage | null {
    try {
      const fd = openSync(`${options.procDir}/${process.pid}/stat`, "r");
      return new ProcessUsage(fd, process, options.units);
    } catch (error) {
      if (isGone(error)) return null;
      throw error;
    }
  }

  /** Null once the process has ended. */
  read(): Usage | null {
    const stat = this.#readStat();
    if (stat === null) return null;
    const { state, cpuTicks, startTime, residentPages } = parseStat(stat);
    if (startTime !== this.#process.startTime || state === "Z" || state === "X") return null;
    const { pageBytes, ticksPerSecond } = this.#units;
    return { cpuSeconds: cpuTicks / ticksPerSecond, memoryBytes: residentPages * pageBytes };
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #readStat(): string | null {
    try {
      const length = readSync(this.#fd, buffer, 0, buffer.length, 0);
      return buffer.toString("latin1", 0, length);
    } catch (error) {
      if (isGone(error)) return null;
      throw error;
    }
  }
}

/** For reads that are over before the next one starts. */
const buffer = Buffer.alloc(STAT_BYTES_MAX);

function parseStat(stat: string) {
  // The name in brackets may hold spaces and brackets itself. Field 3 of the manual is the first.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return {
    state: fields[0] ?? "",
    cpuTicks: Number(fields[11]) + Number(fields[12]),
    startTime: fields[19] ?? "",
    residentPages: Number(fields[21]),
  };
}

function isGone(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : "";
  return code === "ENOENT" || code === "ESRCH";
}
