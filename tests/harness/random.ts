// Random input of tests that can be had again: each draws from a seed, which is printed when the test fails and
// taken from WRENN_TEST_SEED. Generators of inputs run for FUZZ_SECONDS, as the fuzzers of the C code do.

const SEED = process.env.WRENN_TEST_SEED;
/** Of one property: a moment in each run. */
const FUZZ_MS = 1000 * Number(process.env.FUZZ_SECONDS ?? (process.env.WRENN_SOAK ? 60 : 0.5));
/** For `test`: the generator ends by itself, if what it feeds does. */
export const FUZZ_TIMEOUT_MS = FUZZ_MS + 30_000;

/** xorshift32 behind a hash of the seed, so that neighbouring seeds have nothing in common. */
export class Random {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#state = Number(Bun.hash.xxHash32(`${seed}`)) | 1;
  }

  /** A whole number from 0 and below the limit, which is at most 2^32. */
  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  /** From 0 to the limit, as often of one order of magnitude as of another. */
  size(max: number): number {
    const bits = this.below(Math.ceil(Math.log2(max + 1)) + 1);
    return Math.min(max, this.below(2 ** bits));
  }

  /** True in one of so many cases. */
  oneIn(cases: number): boolean {
    return this.below(cases) === 0;
  }

  pick<T>(from: readonly T[]): T {
    const picked = from[this.below(from.length)];
    if (picked === undefined) throw new Error("there is nothing to pick from");
    return picked;
  }

  list<T>(countMax: number, make: (index: number) => T): T[] {
    return Array.from({ length: this.size(countMax) }, (_, index) => make(index));
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; at++) bytes[at] = this.below(256);
    return bytes;
  }

  /** Made of these characters. */
  text(alphabet: string, length: number): string {
    let text = "";
    for (let at = 0; at < length; at++) text += alphabet[this.below(alphabet.length)];
    return text;
  }

  /** The same bytes in pieces, a few of them empty; single bytes now and then. */
  pieces(bytes: Buffer): Buffer[] {
    const isFine = this.oneIn(4);
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = isFine ? 1 : this.size(bytes.length - at);
      // Of its own, as a socket's is; what was given must not be looked at later.
      pieces.push(Buffer.from(bytes.subarray(at, at + length)));
      at += length;
    }
    return pieces;
  }

  /** A copy of the bytes with one of them changed, or a few doubled, left out or put in. */
  damaged(bytes: Buffer, favourites: string): Buffer {
    let damaged = Buffer.from(bytes);
    if (this.oneIn(2) && bytes.length > 0) {
      damaged.write(this.text(favourites, 1), this.below(bytes.length), "latin1");
      return damaged;
    }
    for (let changes = 1 + this.below(4); changes > 0; changes--) {
      const at = this.below(damaged.length + 1);
      const gone = this.size(Math.min(16, damaged.length - at));
      const added = this.oneIn(2)
        ? Buffer.from(this.text(favourites, this.size(8)), "latin1")
        : damaged.subarray(at, at + this.size(16));
      damaged = Buffer.concat([damaged.subarray(0, at), added, damaged.subarray(at + gone)]);
    }
    return damaged;
  }
}

/** Runs the body with numbers from a seed, and prints it if that fails. */
export async function withRandom<T>(body: (random: Random) => T | Promise<T>): Promise<T> {
  return await under(firstSeed(), body);
}

/** Tries the property with one seed after the other until the time is over. */
export async function fuzz(property: (random: Random) => void | Promise<void>): Promise<void> {
  const endsAtMs = performance.now() + FUZZ_MS;
  let seed = firstSeed();
  do {
    await under(seed, property);
    seed = (seed + 1) % 2 ** 32;
  } while (performance.now() < endsAtMs);
}

function firstSeed(): number {
  return SEED === undefined ? (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) : Number(SEED);
}

async function under<T>(seed: number, body: (random: Random) => T | Promise<T>): Promise<T> {
  try {
    return await body(new Random(seed));
  } catch (error) {
    console.error(`again with WRENN_TEST_SEED=${seed}`);
    throw error;
  }
}
