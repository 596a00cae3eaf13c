// The last samples of one capsule at one resolution. A full ring forgets its oldest sample.

export interface Sample {
  /** Wall clock, milliseconds since 1970. */
  readonly atMs: number;
  /** Of all the capsule's processors together: 0 to 100. */
  readonly cpuPercent: number;
  /** What its VMM holds in memory. */
  readonly memoryBytes: number;
  /** What its root disk takes on the host. */
  readonly diskBytes: number;
}

const FIELDS = 4;
/** Most capsules live for less than the rings can tell of, so rings grow with them. */
const SAMPLES_AT_FIRST = 32;

export class SampleRing {
  readonly #samplesMax: number;
  /** FIELDS numbers per sample: objects would take three times the memory. */
  #values: Float64Array;
  #length = 0;
  /** Where the oldest sample is, once the ring is full. */
  #oldest = 0;

  constructor(samplesMax: number) {
    this.#samplesMax = samplesMax;
    this.#values = new Float64Array(Math.min(samplesMax, SAMPLES_AT_FIRST) * FIELDS);
  }

  push({ atMs, cpuPercent, memoryBytes, diskBytes }: Sample): void {
    const isFull = this.#length === this.#samplesMax;
    const index = isFull ? this.#oldest : this.#length;
    if (isFull) this.#oldest = (this.#oldest + 1) % this.#samplesMax;
    else this.#length += 1;
    if (index * FIELDS === this.#values.length) this.#grow();
    this.#values.set([atMs, cpuPercent, memoryBytes, diskBytes], index * FIELDS);
  }

  /** Samples dated `atMs` or later, in the order in which they were taken. */
  since(atMs: number): Sample[] {
    const samples: Sample[] = [];
    for (let i = 0; i < this.#length; i++) {
      const sample = this.#at((this.#oldest + i) % this.#samplesMax);
      if (sample.atMs >= atMs) samples.push(sample);
    }
    return samples;
  }

  /** All samples, in that order. */
  all(): Sample[] {
    return this.since(Number.NEGATIVE_INFINITY);
  }

  #at(index: number): Sample {
    const [atMs = 0, cpuPercent = 0, memoryBytes = 0, diskBytes = 0] = this.#values.subarray(
      index * FIELDS,
      (index + 1) * FIELDS,
    );
    return { atMs, cpuPercent, memoryBytes, diskBytes };
  }

  #grow(): void {
    const samples = Math.min(this.#samplesMax, (2 * this.#values.length) / FIELDS);
    const larger = new Float64Array(samples * FIELDS);
    larger.set(this.#values);
    this.#values = larger;
  }
}
