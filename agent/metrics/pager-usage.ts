// What the pagers of this host have done, those that have ended included.
//
// Each pager counts for itself and takes its counts with it, so they are asked whenever somebody reads
// metrics, and what was added since the last time is added here.

/** What a pager tells; see native/pager/stats.h. */
export type PagerStats = Readonly<Record<string, number | string>>;

export interface PagerTotals {
  readonly pagers: number;
  readonly faults: number;
  readonly pagesPrefetched: number;
  readonly bytesRead: number;
  /** Of the slowest of the pagers there are. */
  readonly faultP99Seconds: number;
}

export interface PagerUsageDeps {
  /** Names of the runs of VMMs: one that runs anew has another name. */
  readonly runs: () => readonly { readonly id: string; readonly name: string }[];
  /** Null where there is no pager. Throws when it does not answer. */
  readonly statsOf: (id: string) => Promise<PagerStats | null>;
}

const COUNTED = ["faults", "pagesPrefetched", "bytesRead"] as const;
type Counts = Record<(typeof COUNTED)[number], number>;

/** Pagers asked at the same time. */
const PARALLEL_MAX = 16;

export class PagerUsage {
  readonly #deps: PagerUsageDeps;
  readonly #total: Counts = { faults: 0, pagesPrefetched: 0, bytesRead: 0 };
  /** By the run's name, as they were last told. */
  #last = new Map<string, Counts>();
  #reading: Promise<PagerTotals> | null = null;

  constructor(deps: PagerUsageDeps) {
    this.#deps = deps;
  }

  /** Asks all pagers; whoever asks meanwhile gets the same answer. One that does not answer is left out. */
  async read(): Promise<PagerTotals> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    });
    return await this.#reading;
  }

  async #read(): Promise<PagerTotals> {
    const runs = [...this.#deps.runs()];
    const names = new Set(runs.map(({ name }) => name));
    const reported: { name: string; stats: PagerStats }[] = [];
    const workers = Array.from({ length: Math.min(PARALLEL_MAX, runs.length) }, async () => {
      for (let run = runs.pop(); run !== undefined; run = runs.pop()) {
        const { id, name } = run;
        // It may end any time; what it has counted since it was last asked is lost then.
        const stats = await this.#deps.statsOf(id).catch(() => null);
        if (stats !== null) reported.push({ name, stats });
      }
    });
    await Promise.all(workers);
    for (const { name, stats } of reported) this.#add(name, stats);
    this.#last = new Map([...this.#last].filter(([name]) => names.has(name)));
    const p99Ns = reported.map(({ stats }) => numberOf(stats, "faultP99Ns"));
    return {
      ...this.#total,
      pagers: reported.length,
      faultP99Seconds: Math.max(0, ...p99Ns) / 1e9,
    };
  }

  #add(name: string, stats: PagerStats): void {
    const last = this.#last.get(name);
    const counts: Counts = { faults: 0, pagesPrefetched: 0, bytesRead: 0 };
    for (const key of COUNTED) {
      counts[key] = numberOf(stats, key);
      this.#total[key] += Math.max(0, counts[key] - (last?.[key] ?? 0));
    }
    this.#last.set(name, counts);
  }
}

function numberOf(stats: PagerStats, key: string): number {
  const value = stats[key];
  return typeof value === "number" ? value : 0;
}
