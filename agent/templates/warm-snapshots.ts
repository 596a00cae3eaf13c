// Snapshots of guests that have just booted, one for each image and shape, so that a create need not boot:
// it is a restore that gets its own name. The first create of a kind boots, and its snapshot is made behind
// it, by booting once more a guest that is told nothing, so that there is no identity in it to lose.
//
// They are a cache: bounded in number and bytes, the longest unused go first, and whatever is wrong with
// one costs a boot. Each is a generation in a directory that its key names; a crash leaves it whole or not.

import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { WARM_BYTES_MAX, WARM_QUEUED_MAX, WARM_RETRY_MS, WARM_SNAPSHOTS_MAX } from "../limits.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { hasCode } from "../native/syscall-error.ts";
import { Semaphore } from "../semaphore.ts";
import { sweepUnfinished } from "../snapshots/durable-files.ts";
import type { Generation } from "../snapshots/snapshots.ts";
import { UseOrder } from "../snapshots/use-order.ts";
import { makeWarm } from "./make-warm.ts";
import { WarmAsides } from "./warm-asides.ts";
import { warmKey } from "./warm-key.ts";

const KEY = /^[0-9a-f]{64}$/;
const BLOCK_BYTES = 512;

/** Since the agent started. */
export interface WarmCounts {
  hits: number;
  misses: number;
  /** Creates that booted since their snapshot did not work. */
  fallbacks: number;
  made: number;
  failed: number;
  /** Removed to make room for others. */
  evicted: number;
}

export class WarmSnapshots {
  readonly counts: WarmCounts = {
    hits: 0,
    misses: 0,
    fallbacks: 0,
    made: 0,
    failed: 0,
    evicted: 0,
  };
  readonly #parts: HostParts;
  readonly #dir: string;
  readonly #asides: WarmAsides;
  readonly #uses: UseOrder;
  readonly #isOn: boolean;
  readonly #stop = new AbortController();
  /** By key: being made, or when a failed one may be tried again. */
  readonly #making = new Map<string, Promise<void>>();
  readonly #retryAtMs = new Map<string, number>();
  readonly #permits = new Semaphore({
    atOnceMax: 1,
    queuedMax: WARM_QUEUED_MAX,
    refusal: "Too many warm snapshots wait to be made",
  });

  /** `dir` is $WRENN_DIR/warm. */
  constructor(parts: HostParts, options: { dir: string; isOn: boolean }) {
    this.#parts = parts;
    this.#dir = options.dir;
    this.#asides = new WarmAsides(parts, join(options.dir, "aside"));
    this.#uses = new UseOrder(options.dir);
    this.#isOn = options.isOn;
  }

  /** Removes what crashes left half made or half removed. MUST be called before anything else. */
  async sweep(): Promise<void> {
    await sweepUnfinished(this.#dir);
    await this.#asides.sweep();
  }

  /** The snapshot that a create of that spec may restore; null: there is none, or it is of no use. */
  async find(spec: CapsuleSpec): Promise<Generation | null> {
    if (!this.#isOn) return null;
    const key = await this.#key(spec);
    if (key === null) return null;
    const directory = join(this.#dir, key);
    try {
      const generation = await this.#parts.snapshots.load(directory);
      await this.#uses.use(key);
      this.counts.hits += 1;
      return generation;
    } catch (error) {
      this.counts.misses += 1;
      // Want of memory or of descriptors says nothing about it.
      const isUnusable = hasCode(error, "damaged", "incompatible", "not_found");
      if (isUnusable && (await exists(directory))) await this.setAside(directory, error);
      return null;
    }
  }

  /** It did not work: the next create makes another one. Never throws. */
  async setAside(directory: string, error: unknown): Promise<void> {
    await this.#asides.setAside(directory, error);
  }

  /** Has the snapshot made behind, if there is none. */
  makeLater(spec: CapsuleSpec): void {
    if (!this.#isOn || this.#stop.signal.aborted) return;
    void this.#makeLater(spec).catch((error: unknown) => {
      this.#parts.log.warn("warm.failed", { error });
    });
  }

  /** Ends what is being made, and leaves nothing of it. */
  async close(): Promise<void> {
    this.#stop.abort(new Error("the agent is stopping"));
    await Promise.allSettled(this.#making.values());
  }

  async #makeLater(spec: CapsuleSpec): Promise<void> {
    const key = await this.#key(spec);
    if (key === null || this.#making.has(key)) return;
    const isTooEarly = performance.now() < (this.#retryAtMs.get(key) ?? 0);
    if (isTooEarly || (await exists(join(this.#dir, key)))) return;
    if (this.#making.has(key) || this.#stop.signal.aborted) return;
    const making = this.#make(key, spec).finally(() => this.#making.delete(key));
    this.#making.set(key, making);
    await making;
  }

  async #make(key: string, spec: CapsuleSpec): Promise<void> {
    const { signal } = this.#stop;
    using _permit = await this.#permits.acquire(signal);
    try {
      await mkdir(this.#dir, { recursive: true, mode: 0o700 });
      await this.#makeRoom();
      await makeWarm(this.#parts, spec, { directory: join(this.#dir, key), signal });
      await this.#uses.use(key);
      this.counts.made += 1;
    } catch (error) {
      this.counts.failed += 1;
      this.#retryAtMs.set(key, performance.now() + WARM_RETRY_MS);
      throw error;
    }
  }

  /** For one more. */
  async #makeRoom(): Promise<void> {
    const names = (await readdir(this.#dir)).filter((name) => KEY.test(name));
    const found = await Promise.all(
      (await this.#uses.sort(names)).map(async (name) => {
        const directory = join(this.#dir, name);
        return { directory, bytes: await sizeOf(directory) };
      }),
    );
    let bytes = found.reduce((sum, snapshot) => sum + snapshot.bytes, 0);
    let left = found.length;
    for (const snapshot of found) {
      if (left < WARM_SNAPSHOTS_MAX && bytes < WARM_BYTES_MAX) return;
      await this.#parts.snapshots.remove(snapshot.directory);
      this.counts.evicted += 1;
      this.#parts.log.info("warm.evicted", { directory: snapshot.directory });
      bytes -= snapshot.bytes;
      left -= 1;
    }
  }

  /** Null without an image. */
  async #key(spec: CapsuleSpec): Promise<string | null> {
    const ids = { teamId: spec.templateTeamId, templateId: spec.templateId };
    const image = await this.#parts.images.resolve(ids);
    if (image === null) return null;
    const { snapshots, guestKernel } = this.#parts;
    return warmKey({
      imageSha256: image.sha256,
      shape: spec,
      guestKernel: guestKernel.version,
      host: snapshots.host,
    });
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}

async function sizeOf(directory: string): Promise<number> {
  const names = await readdir(directory);
  const sizes = names.map(async (name) => (await stat(join(directory, name))).blocks * BLOCK_BYTES);
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}
