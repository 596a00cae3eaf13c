// What one capsule used over the last day, finer the younger: each sample for ten minutes, means of half
// a minute for two hours, means of five minutes for a day.

import { type Sample, SampleRing } from "./sample-ring.ts";

/** Between samples; the sizes of the rings follow from it. */
export const SAMPLE_EVERY_MS = 500;

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Samples, and means of so many of the tier before. */
const SAMPLES_10M = 1200;
const SAMPLES_2H = 240;
const SAMPLES_24H = 288;
const SAMPLES_PER_2H_MEAN = 60;
const MEANS_PER_24H_MEAN = 10;

type Tier = "10m" | "2h" | "24h";

/** The ranges that can be asked for: how far back, and from which ring. */
const RANGES = {
  "5m": { tier: "10m", ms: 5 * MINUTE_MS },
  "10m": { tier: "10m", ms: 10 * MINUTE_MS },
  "1h": { tier: "2h", ms: HOUR_MS },
  "2h": { tier: "2h", ms: 2 * HOUR_MS },
  "6h": { tier: "24h", ms: 6 * HOUR_MS },
  "12h": { tier: "24h", ms: 12 * HOUR_MS },
  "24h": { tier: "24h", ms: 24 * HOUR_MS },
} as const satisfies Record<string, { tier: Tier; ms: number }>;

export type MetricRange = keyof typeof RANGES;

export const METRIC_RANGES = Object.keys(RANGES);

export function isMetricRange(text: string): text is MetricRange {
  return Object.hasOwn(RANGES, text);
}

const TIERS = ["10m", "2h", "24h"] as const satisfies readonly Tier[];
/** Of the numbers that a history is saved as; others are not read. */
const LAYOUT = 1;
const SUM_FIELDS = 4;
const SAMPLE_FIELDS = 4;

export class MetricHistory {
  readonly #rings: Record<Tier, SampleRing> = {
    "10m": new SampleRing(SAMPLES_10M),
    "2h": new SampleRing(SAMPLES_2H),
    "24h": new SampleRing(SAMPLES_24H),
  };
  readonly #mean2h = new Mean(SAMPLES_PER_2H_MEAN);
  readonly #mean24h = new Mean(MEANS_PER_24H_MEAN);

  /** The history that `toNumbers` told of; null when those are no such numbers. */
  static fromNumbers(numbers: Float64Array): MetricHistory | null {
    const [layout, ...lengths] = numbers.subarray(0, 1 + TIERS.length);
    const sumsAt = 1 + TIERS.length;
    const samplesAt = sumsAt + 2 * SUM_FIELDS;
    const samples = lengths.reduce((sum, length) => sum + length, 0);
    if (layout !== LAYOUT || numbers.length !== samplesAt + samples * SAMPLE_FIELDS) return null;

    const history = new MetricHistory();
    history.#mean2h.sums = numbers.subarray(sumsAt, sumsAt + SUM_FIELDS);
    history.#mean24h.sums = numbers.subarray(sumsAt + SUM_FIELDS, samplesAt);
    let at = samplesAt;
    for (const [i, tier] of TIERS.entries()) {
      for (let left = lengths[i] ?? 0; left > 0; left -= 1) {
        const [atMs = 0, cpuPercent = 0, memoryBytes = 0, diskBytes = 0] = numbers.subarray(at);
        history.#rings[tier].push({ atMs, cpuPercent, memoryBytes, diskBytes });
        at += SAMPLE_FIELDS;
      }
    }
    return history;
  }

  /** All of it, for a file: the rings, and the means that are being made. */
  toNumbers(): Float64Array {
    const rings = TIERS.map((tier) => this.#rings[tier].all());
    return Float64Array.from([
      LAYOUT,
      ...rings.map(({ length }) => length),
      ...this.#mean2h.sums,
      ...this.#mean24h.sums,
      ...rings.flat().flatMap((sample) => {
        const { atMs, cpuPercent, memoryBytes, diskBytes } = sample;
        return [atMs, cpuPercent, memoryBytes, diskBytes];
      }),
    ]);
  }

  /** Whether the sample completed five minutes. */
  push(sample: Sample): boolean {
    this.#rings["10m"].push(sample);
    const halfMinute = this.#mean2h.add(sample);
    if (halfMinute === null) return false;
    this.#rings["2h"].push(halfMinute);
    const fiveMinutes = this.#mean24h.add(halfMinute);
    if (fiveMinutes === null) return false;
    this.#rings["24h"].push(fiveMinutes);
    return true;
  }

  /**
   * What was sampled within the range before `nowMs`, oldest first, also by a clock that was set back: what it
   * dated then is told when its time comes.
   */
  within(range: MetricRange, nowMs: number): Sample[] {
    const { tier, ms } = RANGES[range];
    const samples = this.#rings[tier].since(nowMs - ms).filter(({ atMs }) => atMs <= nowMs);
    return samples.sort((a, b) => a.atMs - b.atMs);
  }
}

/** Collects samples until there are enough for a mean, which has the time of the last of them. */
class Mean {
  readonly #samples: number;
  #count = 0;
  #cpuPercent = 0;
  #memoryBytes = 0;
  #diskBytes = 0;

  constructor(samples: number) {
    this.#samples = samples;
  }

  /** What it has collected so far. */
  get sums(): Float64Array {
    return Float64Array.of(this.#count, this.#cpuPercent, this.#memoryBytes, this.#diskBytes);
  }

  set sums(sums: Float64Array) {
    [this.#count = 0, this.#cpuPercent = 0, this.#memoryBytes = 0, this.#diskBytes = 0] = sums;
  }

  /** The mean that this sample completes, or null. */
  add({ atMs, cpuPercent, memoryBytes, diskBytes }: Sample): Sample | null {
    this.#count += 1;
    this.#cpuPercent += cpuPercent;
    this.#memoryBytes += memoryBytes;
    this.#diskBytes += diskBytes;
    if (this.#count < this.#samples) return null;
    const mean = {
      atMs,
      cpuPercent: this.#cpuPercent / this.#count,
      memoryBytes: Math.round(this.#memoryBytes / this.#count),
      diskBytes: Math.round(this.#diskBytes / this.#count),
    };
    this.#count = this.#cpuPercent = this.#memoryBytes = this.#diskBytes = 0;
    return mean;
  }
}
