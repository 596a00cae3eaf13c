// What witness.py must have in memory and on disk after any number of changes, known without asking it.

import { crc32 } from "node:zlib";

const PAGE = 4096;
/** Named in a failure; the rest is counted. */
const DAMAGE_NAMED_MAX = 10;

export class WitnessContents {
  readonly #seed: string;
  readonly #kind: "page" | "block";
  readonly #bytes: Buffer;
  /** Of each page, newest last. */
  readonly #versions: number[][];

  constructor(options: { seed: string; kind: "page" | "block"; count: number }) {
    const { seed, kind, count } = options;
    this.#seed = seed;
    this.#kind = kind;
    this.#bytes = Buffer.alloc(count * PAGE);
    this.#versions = Array.from({ length: count }, () => []);
    for (let i = 0; i < count; i += 1) this.#set(i, 1);
  }

  /** Does what the program does in that cycle. */
  change(cycle: number, count: number): void {
    const total = this.#versions.length;
    for (let i = 0; i < count; i += 1) {
      const digest = sha256(`${this.#seed}/${this.#kind}/change/${cycle}/${i}`);
      this.#set(digest.readUInt32BE() % total, i % 3 === 0 ? 0 : cycle);
    }
  }

  get digest(): string {
    return new Bun.CryptoHasher("md5").update(this.#bytes).digest("hex");
  }

  /** One sentence on what differs, by the checksum of each page. */
  describeDamage(checksums: readonly number[]): string {
    const damage = this.#versions.flatMap((versions, i) => {
      const found = checksums[i];
      const [newest, ...older] = versions.toReversed().map((v) => this.#content(i, v));
      if (newest !== undefined && crc32(newest) === found) return [];
      if (crc32(Buffer.alloc(PAGE)) === found) return [`${i} is zeros`];
      const age = older.findIndex((content) => crc32(content) === found);
      const version = versions.at(-2 - age);
      return [`${i} is ${age < 0 ? "of no version" : `of cycle ${version}`}`];
    });
    const named = damage.slice(0, DAMAGE_NAMED_MAX).join(", ");
    return `${damage.length} of ${this.#versions.length} ${this.#kind}s are wrong: ${named}`;
  }

  #set(index: number, version: number): void {
    this.#versions[index]?.push(version);
    this.#content(index, version).copy(this.#bytes, index * PAGE);
  }

  #content(index: number, version: number): Buffer {
    if (version === 0) return Buffer.alloc(PAGE);
    const digest = sha256(`${this.#seed}/${this.#kind}/${index}/${version}`);
    return Buffer.alloc(PAGE, digest);
  }
}

function sha256(text: string): Buffer {
  return Buffer.from(new Bun.CryptoHasher("sha256").update(text).digest());
}
