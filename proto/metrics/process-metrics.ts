// What each of our programs tells of itself: processor time, memory, files, and how late its event loop
// runs. prom-client's own set reads a V8 heap that Bun does not have.

import { readdirSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, Gauge, type Registry } from "prom-client";

/** How often the loop's lateness is measured: what blocks it for less is not worth waking up for. */
const LAG_RESOLUTION_MS = 50;
const QUANTILES = [0.5, 0.99] as const;
const NANOSECONDS = 1e9;

type LagHistogram = ReturnType<typeof monitorEventLoopDelay>;

/** Adds the metrics to the registry. Disposing ends the measuring. */
export class ProcessMetrics implements Disposable {
  readonly #lag: LagHistogram;

  constructor(registry: Registry, program: { name: "cp" | "agent"; version: string }) {
    this.#lag = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS });
    this.#lag.enable();
    const registers = [registry];
    new Gauge({
      name: `wrenn_${program.name}_info`,
      help: "Always 1; its labels say which program this is.",
      labelNames: ["version", "bun"],
      registers,
    }).set({ version: program.version, bun: Bun.version }, 1);
    addResources(registers);
    addLag(registers, this.#lag);
  }

  [Symbol.dispose](): void {
    this.#lag.disable();
  }
}

function addResources(registers: Registry[]): void {
  new Counter({
    name: "process_cpu_seconds_total",
    help: "User and system time of the process.",
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  new Gauge({
    name: "process_resident_memory_bytes",
    help: "Resident memory of the process.",
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  new Gauge({
    name: "process_open_fds",
    help: "Open file descriptors of the process.",
    registers,
    collect() {
      this.set(readdirSync("/proc/self/fd").length);
    },
  });
  new Gauge({
    name: "process_start_time_seconds",
    help: "When the process started, in seconds since 1970.",
    registers,
  }).set(performance.timeOrigin / 1000);
}

function addLag(registers: Registry[], lag: LagHistogram): void {
  new Gauge({
    name: "wrenn_event_loop_lag_seconds",
    help: "How late the event loop ran its timers since it was last asked; quantile 1 is the latest.",
    labelNames: ["quantile"],
    registers,
    collect() {
      // Nothing was measured yet when it is asked at once.
      const isEmpty = lag.count === 0;
      for (const quantile of QUANTILES) {
        this.set({ quantile }, isEmpty ? 0 : lag.percentile(quantile * 100) / NANOSECONDS);
      }
      this.set({ quantile: 1 }, isEmpty ? 0 : lag.max / NANOSECONDS);
      lag.reset();
    },
  });
}
