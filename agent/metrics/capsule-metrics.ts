// What the capsules of this host use: CPU, memory and disk, sampled for all of them in one pass.
//
// The sampler keeps no list of its own: each pass goes over the capsules that run now, whoever started
// them, so adopted ones are measured with what the journal says of them, and those that ended are
// forgotten. A pass never overlaps the one before; a host that is too busy samples less often.
//
// What a capsule at rest has used waits on disk, and goes on when it runs again. That of one that runs is
// saved every five minutes and when the agent ends, so a crash of the agent costs those minutes.

import type { ProcessIdentity } from "../keeper/process-identity.ts";
import type { Log } from "../log.ts";
import type { RootDisks } from "../rootfs/root-disks.ts";
import { MetricHistory, type MetricRange, SAMPLE_EVERY_MS } from "./metric-history.ts";
import type { MetricStore } from "./metric-store.ts";
import { ProcessUsage, type ProcUnits, readProcUnits, type Usage } from "./process-usage.ts";
import type { Sample } from "./sample-ring.ts";
import type { SentBytes } from "./sent-bytes.ts";

/** A running capsule's VMM, for whoever measures it. */
export interface RunningVmm {
  readonly id: string;
  readonly vcpus: number;
  readonly vmm: ProcessIdentity;
  /** The host's end of its network; null while it has none. */
  readonly link: string | null;
}

export interface CapsuleMetricsDeps {
  readonly running: () => readonly RunningVmm[];
  /** Ids of all capsules of this host, those at rest too. */
  readonly known: () => readonly string[];
  readonly store: MetricStore;
  readonly sent: SentBytes;
  readonly disks: Pick<RootDisks, "allocatedBytes">;
  readonly log: Log;
  readonly now: () => Date;
  /** Milliseconds of a clock that nobody sets. */
  readonly monotonicMs: () => number;
  /** Where processes are described: /proc but in tests. */
  readonly procDir?: string;
}

/** What all running capsules use together. */
export interface HostUsage {
  /** Of all capsules since the agent started, those that have ended included. */
  readonly cpuSeconds: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

interface Measured {
  readonly history: MetricHistory;
  vmm: RunningVmm["vmm"];
  usage: ProcessUsage;
  /** Null until the process was read for the first time: a share needs two readings. */
  last: { cpuSeconds: number; atMs: number } | null;
  latest: Sample | null;
  hasFailed: boolean;
}

export class CapsuleMetrics implements Disposable {
  readonly #deps: CapsuleMetricsDeps;
  readonly #procDir: string;
  readonly #units: ProcUnits;
  readonly #measured = new Map<string, Measured>();
  #cpuSeconds = 0;
  #isSampling = false;
  #timer: ReturnType<typeof setInterval> | null = null;

  constructor(deps: CapsuleMetricsDeps) {
    this.#deps = deps;
    this.#procDir = deps.procDir ?? "/proc";
    this.#units = readProcUnits();
  }

  /** Samples every half second until disposed. */
  start(): void {
    this.#timer ??= setInterval(() => void this.sample(), SAMPLE_EVERY_MS);
  }

  /** One pass over all running capsules; nothing if one is under way. Never throws. */
  async sample(): Promise<void> {
    if (this.#isSampling) return;
    this.#isSampling = true;
    try {
      await this.#sampleAll(this.#deps.running());
    } catch (error) {
      this.#deps.log.warn("metrics.pass-failed", { error });
    }
    this.#isSampling = false;
  }

  /** What the capsule used within that range, oldest first; nothing of one that never ran. */
  within(id: string, range: MetricRange): Sample[] {
    const history = this.#measured.get(id)?.history ?? this.#load(id);
    return history ? history.within(range, this.#deps.now().getTime()) : [];
  }

  /** What the capsule's disk took of the host when it was last measured; null: not since it runs here. */
  diskBytes(id: string): number | null {
    return this.#measured.get(id)?.latest?.diskBytes ?? null;
  }

  /** What it has sent to the network since it was created; null: it has not run here. */
  sentBytes(id: string): number | null {
    try {
      return this.#deps.sent.of(id);
    } catch (error) {
      this.#deps.log.warn("metrics.unread", { capsule: id, error });
      return null;
    }
  }

  total(): HostUsage {
    let memoryBytes = 0;
    let diskBytes = 0;
    for (const { latest } of this.#measured.values()) {
      memoryBytes += latest?.memoryBytes ?? 0;
      diskBytes += latest?.diskBytes ?? 0;
    }
    return { cpuSeconds: this.#cpuSeconds, memoryBytes, diskBytes };
  }

  [Symbol.dispose](): void {
    if (this.#timer) clearInterval(this.#timer);
    for (const [id, { usage, history }] of this.#measured) {
      usage[Symbol.dispose]();
      this.#save(id, history);
    }
    this.#measured.clear();
    this.#deps.sent.save();
  }

  /** A lasting failure is one line, not two per second; a capsule that ended meanwhile is none. */
  #tell(id: string, error: unknown): void {
    const measured = this.#measured.get(id);
    if (!measured || measured.hasFailed) return;
    if (!this.#deps.running().some((capsule) => capsule.id === id)) return;
    measured.hasFailed = true;
    this.#deps.log.warn("metrics.failed", { capsule: id, error });
  }

  async #sampleAll(running: readonly RunningVmm[]): Promise<void> {
    this.#forgetOthers(running);
    // One after the other: creates wait for the same disk and the same workers.
    for (const capsule of running) {
      try {
        await this.#measure(capsule);
      } catch (error) {
        this.#tell(capsule.id, error);
      }
    }
    this.#deps.sent.take(running);
  }

  async #measure(capsule: RunningVmm): Promise<void> {
    const measured = this.#measuredOf(capsule);
    const usage = measured?.usage.read();
    if (!measured || !usage) return;
    const cpuPercent = this.#cpuPercent(measured, usage, capsule.vcpus);
    if (cpuPercent === null) return;
    const atMs = this.#deps.now().getTime();
    const diskBytes = await this.#deps.disks.allocatedBytes(capsule.id);
    measured.latest = { atMs, cpuPercent, memoryBytes: usage.memoryBytes, diskBytes };
    if (measured.history.push(measured.latest)) this.#save(capsule.id, measured.history);
    measured.hasFailed = false;
  }

  #measuredOf({ id, vmm }: RunningVmm): Measured | null {
    const known = this.#measured.get(id);
    if (known?.vmm.pid === vmm.pid && known.vmm.startTime === vmm.startTime) return known;
    const usage = ProcessUsage.open(vmm, { procDir: this.#procDir, units: this.#units });
    if (usage === null) return null;
    known?.usage[Symbol.dispose]();
    // A capsule that got another process is still the same capsule.
    const history = known?.history ?? this.#load(id) ?? new MetricHistory();
    const measured = {
      history,
      vmm,
      usage,
      last: null,
      latest: known?.latest ?? null,
      hasFailed: false,
    };
    this.#measured.set(id, measured);
    return measured;
  }

  /** Since the last reading; null at the first. */
  #cpuPercent(measured: Measured, { cpuSeconds }: Usage, vcpus: number): number | null {
    const { last } = measured;
    const atMs = this.#deps.monotonicMs();
    measured.last = { cpuSeconds, atMs };
    if (last === null || atMs <= last.atMs) return null;
    const usedSeconds = cpuSeconds - last.cpuSeconds;
    this.#cpuSeconds += usedSeconds;
    const share = usedSeconds / (((atMs - last.atMs) / 1000) * vcpus);
    // Ticks of 10 ms, and threads of the VMM beside those of the processors, can make it more.
    return Math.min(100, Math.max(0, share * 100));
  }

  #forgetOthers(running: readonly RunningVmm[]): void {
    const ids = new Set(running.map(({ id }) => id));
    const known = new Set(this.#deps.known());
    for (const [id, { usage, history }] of this.#measured) {
      if (ids.has(id)) continue;
      usage[Symbol.dispose]();
      if (known.has(id)) this.#save(id, history);
      this.#measured.delete(id);
    }
    this.#deps.store.keepOnly(known);
    this.#deps.sent.keepOnly(known);
  }

  /** Metrics are worth a line in the log, not a sample: a full disk is no reason to stop. */
  #save(id: string, history: MetricHistory): void {
    try {
      this.#deps.store.save(id, history);
    } catch (error) {
      this.#deps.log.warn("metrics.unsaved", { capsule: id, error });
    }
  }

  #load(id: string): MetricHistory | null {
    try {
      return this.#deps.store.load(id);
    } catch (error) {
      this.#deps.log.warn("metrics.unread", { capsule: id, error });
      return null;
    }
  }
}
