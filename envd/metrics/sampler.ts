// Load of the guest, measured in the background so that asking for it costs nothing.
import { readFileSync, statfsSync } from "node:fs";

const SAMPLE_MS = 1000;
const MIB = 1024 * 1024;

/** The body of GET /metrics. Sizes are in bytes unless the name says otherwise. */
export interface Metrics {
  readonly ts: number;
  readonly cpu_count: number;
  readonly cpu_used_pct: number;
  readonly mem_total: number;
  readonly mem_used: number;
  readonly mem_cache: number;
  readonly mem_total_mib: number;
  readonly mem_used_mib: number;
  readonly disk_used: number;
  readonly disk_total: number;
}

export interface CpuTimes {
  readonly busy: number;
  readonly total: number;
  readonly count: number;
}

/** Samples the processors once a second; memory and disk are read when they are asked for. */
export class MetricsSampler {
  #timer: ReturnType<typeof setInterval> | null = null;
  #last: CpuTimes = readCpuTimes();
  #usedPct = 0;

  start(): void {
    this.#timer ??= setInterval(() => this.#sample(), SAMPLE_MS);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  read(): Metrics {
    const memory = parseMemory(readFileSync("/proc/meminfo", "utf8"));
    const disk = statfsSync("/");
    return {
      ts: Math.floor(Date.now() / 1000),
      cpu_count: this.#last.count,
      cpu_used_pct: this.#usedPct,
      mem_total: memory.total,
      mem_used: memory.total - memory.available,
      mem_cache: memory.cache,
      mem_total_mib: Math.round(memory.total / MIB),
      mem_used_mib: Math.round((memory.total - memory.available) / MIB),
      disk_used: (disk.blocks - disk.bavail) * disk.bsize,
      disk_total: disk.blocks * disk.bsize,
    };
  }

  #sample(): void {
    const times = readCpuTimes();
    this.#usedPct = usedPct(this.#last, times);
    this.#last = times;
  }
}

/** The share of busy time between two samples, in percent with two decimals. */
function usedPct(before: CpuTimes, after: CpuTimes): number {
  const total = after.total - before.total;
  if (total <= 0) return 0;
  const pct = ((after.busy - before.busy) / total) * 100;
  return Math.round(Math.min(Math.max(pct, 0), 100) * 100) / 100;
}

function readCpuTimes(): CpuTimes {
  return parseCpuTimes(readFileSync("/proc/stat", "utf8"));
}

/** The first line of proc_stat(5) and how many processors follow it. */
function parseCpuTimes(stat: string): CpuTimes {
  const [, ...fields] = (stat.split("\n", 1)[0] ?? "").trim().split(/\s+/);
  // Guest time, the last two fields, is contained in user and nice.
  const times = fields.slice(0, 8).map(Number);
  const total = times.reduce((sum, time) => sum + time, 0);
  const idle = (times[3] ?? 0) + (times[4] ?? 0);
  return { busy: total - idle, total, count: stat.match(/^cpu\d/gm)?.length ?? 1 };
}

/** Bytes of proc_meminfo(5). */
function parseMemory(text: string): { total: number; available: number; cache: number } {
  const kib = (name: string) =>
    Number(text.match(new RegExp(`^${name}:\\s+(\\d+)`, "m"))?.[1] ?? 0);
  return {
    total: kib("MemTotal") * 1024,
    available: kib("MemAvailable") * 1024,
    cache: (kib("Cached") + kib("Buffers")) * 1024,
  };
}
