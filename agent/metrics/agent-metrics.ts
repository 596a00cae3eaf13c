// The agent's own metrics, for Prometheus.
//
// Capsules appear as sums, never by id: ids are used once, so a label of them would grow for ever. What
// one capsule uses is asked of the control plane's API.

import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { ProcessMetrics } from "../../proto/metrics/process-metrics.ts";
import type { HostUsage } from "./capsule-metrics.ts";
import type { PagerTotals, PagerUsage } from "./pager-usage.ts";

/** From a reflink to the boot of an emulated guest. */
const STEP_SECONDS_BUCKETS = [
  0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120,
];

/** Read when somebody asks. */
export interface HostReport {
  readonly capsules: readonly { readonly status: string; readonly vcpus: number }[];
  readonly usage: HostUsage;
  /** Calls to guests that are open for long: commands, terminals, transfers. */
  readonly guestStreams: number;
  /** Of guests that have booted, kept for creates. */
  readonly warm: Readonly<
    Record<"hits" | "misses" | "fallbacks" | "made" | "failed" | "evicted", number>
  >;
  readonly network: { readonly ready: number; readonly wanted: number; readonly failures: number };
  /** Of each lane of native calls. */
  readonly lanes: Readonly<Record<string, { readonly waiting: number; readonly running: number }>>;
}

export interface AgentMetricsDeps {
  readonly version: string;
  readonly report: () => HostReport;
  readonly pagers: Pick<PagerUsage, "read">;
  /** vmm, its version, what accelerates it, the guests' kernel, how disks are copied. */
  readonly host: Readonly<Record<"vmm" | "vmm_version" | "accel" | "kernel" | "cow", string>>;
}

export class AgentMetrics implements Disposable {
  readonly #registry = new Registry();
  readonly #process: ProcessMetrics;
  readonly #creates: Counter;
  readonly #steps: Histogram;
  readonly #guestCalls: Counter;
  readonly #report: () => HostReport;
  readonly #pagers: AgentMetricsDeps["pagers"];
  #paged: PagerTotals | null = null;

  constructor({ version, report, pagers, host }: AgentMetricsDeps) {
    const registers = [this.#registry];
    this.#report = report;
    this.#pagers = pagers;
    this.#process = new ProcessMetrics(this.#registry, { name: "agent", version });
    this.#gauge(
      "host_info",
      "Always 1; its labels say what capsules run on.",
      Object.keys(host),
    ).set(host, 1);
    this.#creates = new Counter({
      name: "wrenn_agent_creates_total",
      help: "Creates of capsules, by how they ended: ok or a code.",
      labelNames: ["outcome"],
      registers,
    });
    this.#steps = new Histogram({
      name: "wrenn_agent_create_step_duration_seconds",
      help: "Steps of creates that succeeded; total is all of them with the wait for a turn.",
      labelNames: ["step"],
      buckets: STEP_SECONDS_BUCKETS,
      registers,
    });
    this.#guestCalls = new Counter({
      name: "wrenn_agent_guest_calls_total",
      help: "Short calls to guests, by how they ended: ok or a code.",
      labelNames: ["outcome"],
      registers,
    });
    this.#addCapsules();
    this.#addUsage();
    this.#addNetwork();
    this.#addLanes();
    this.#addWarm();
    this.#addPagers();
  }

  /** A create succeeded; milliseconds by step, as `<step>_ms`. */
  observeCreated(timings: Readonly<Record<string, number>>): void {
    this.#creates.inc({ outcome: "ok" });
    for (const [name, ms] of Object.entries(timings)) {
      this.#steps.observe({ step: name.replace(/_ms$/, "") }, ms / 1000);
    }
  }

  observeCreateFailed(code: string): void {
    this.#creates.inc({ outcome: code });
  }

  /** `ok` or the code of an AgentError. */
  observeGuestCall(outcome: string): void {
    this.#guestCalls.inc({ outcome });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Everything in Prometheus' text format. */
  async text(): Promise<string> {
    this.#paged = await this.#pagers.read();
    return await this.#registry.metrics();
  }

  [Symbol.dispose](): void {
    this.#process[Symbol.dispose]();
  }

  #addCapsules(): void {
    // A state that was seen once is told as zero afterwards.
    const states = new Set<string>(["running"]);
    this.#gauge("capsules", "Capsules on this host, by state.", ["state"], (gauge) => {
      const { capsules } = this.#report();
      for (const { status } of capsules) states.add(status);
      for (const state of states) {
        gauge.set({ state }, capsules.filter(({ status }) => status === state).length);
      }
    });
    this.#gauge("capsule_vcpus", "Processors of running capsules.", [], (gauge) => {
      const running = this.#report().capsules.filter(({ status }) => status === "running");
      gauge.set(running.reduce((sum, { vcpus }) => sum + vcpus, 0));
    });
    this.#gauge("guest_streams", "Commands, terminals and transfers under way.", [], (gauge) =>
      gauge.set(this.#report().guestStreams),
    );
  }

  #addUsage(): void {
    const usage = () => this.#report().usage;
    this.#counter(
      "capsule_cpu_seconds_total",
      "Processor time of running capsules' VMMs since the agent started.",
      () => usage().cpuSeconds,
    );
    this.#gauge("capsule_memory_bytes", "Resident memory of all VMMs.", [], (gauge) =>
      gauge.set(usage().memoryBytes),
    );
    this.#gauge("capsule_disk_bytes", "Allocated bytes of all root disks.", [], (gauge) =>
      gauge.set(usage().diskBytes),
    );
  }

  #addNetwork(): void {
    const network = () => this.#report().network;
    this.#gauge("network_slots_ready", "Network slots made in advance.", [], (gauge) =>
      gauge.set(network().ready),
    );
    this.#gauge("network_slots_wanted", "How many of them should be ready.", [], (gauge) =>
      gauge.set(network().wanted),
    );
    this.#counter(
      "network_fill_failures_total",
      "Failed attempts to make network slots in advance.",
      () => network().failures,
    );
  }

  #addLanes(): void {
    const fill = (gauge: Gauge, key: "waiting" | "running") => {
      for (const [lane, calls] of Object.entries(this.#report().lanes)) {
        gauge.set({ lane }, calls[key]);
      }
    };
    this.#gauge("native_calls_waiting", "Native calls in the queue.", ["lane"], (gauge) =>
      fill(gauge, "waiting"),
    );
    this.#gauge("native_calls_running", "Native calls under way.", ["lane"], (gauge) =>
      fill(gauge, "running"),
    );
  }

  #addWarm(): void {
    const warm = () => this.#report().warm;
    const texts = {
      hits: "Creates that found a guest that has booted.",
      misses: "Creates that found none.",
      fallbacks: "Creates that found one that did not work.",
      made: "Snapshots of booted guests that were made.",
      failed: "Snapshots of booted guests that could not be made.",
      evicted: "Snapshots of booted guests that made room for others.",
    };
    for (const key of ["hits", "misses", "fallbacks", "made", "failed", "evicted"] as const) {
      this.#counter(`warm_${key}_total`, texts[key], () => warm()[key]);
    }
  }

  #addPagers(): void {
    this.#gauge("pagers", "Pagers of running capsules.", [], (gauge) =>
      gauge.set(this.#paged?.pagers ?? 0),
    );
    this.#counter(
      "pager_faults_total",
      "Faults of restored guests that were served from snapshots.",
      () => this.#paged?.faults ?? 0,
    );
    this.#counter(
      "pager_prefetched_pages_total",
      "Pages of restored guests that no fault had asked for.",
      () => this.#paged?.pagesPrefetched ?? 0,
    );
    this.#counter(
      "pager_read_bytes_total",
      "Bytes that pagers read of snapshots.",
      () => this.#paged?.bytesRead ?? 0,
    );
    this.#gauge(
      "pager_fault_p99_seconds",
      "Time in which 99 of 100 faults were served, of the slowest pager.",
      [],
      (gauge) => gauge.set(this.#paged?.faultP99Seconds ?? 0),
    );
  }

  /** One that somebody else counts. */
  #counter(name: string, help: string, read: () => number): void {
    new Counter({
      name: `wrenn_agent_${name}`,
      help,
      registers: [this.#registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  #gauge(
    name: string,
    help: string,
    labelNames: string[] = [],
    collect?: (gauge: Gauge) => void,
  ): Gauge {
    return new Gauge({
      name: `wrenn_agent_${name}`,
      help,
      labelNames,
      registers: [this.#registry],
      ...(collect && {
        collect() {
          collect(this);
        },
      }),
    });
  }
}
