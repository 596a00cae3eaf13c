// Flat files of memory, to be mapped: made from a generation's layers when they are first wanted,
// and checked byte by byte while that happens. They are of one start of the host: the next one makes
// them anew, so no file is ever mapped that was not checked since the host started, and no resume
// waits for a check. All of them can be made again, so what is too much is removed, oldest use first.

import { statSync } from "node:fs";
import { chmod, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Kernel } from "../native/kernel.ts";
import { PARTIAL_SUFFIX } from "./durable-files.ts";
import { type Generation, MEMORY_HEADER } from "./generations.ts";
import { UseOrder } from "./use-order.ts";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
/** What all flat files may take: some hundred templates of an idle guest, a few of busy ones. */
const FLAT_BYTES_MAX = 16 * GIB;
const BLOCK_BYTES = 512;
const FLAT_BESIDE = "memory.flat";

export class FlatFiles {
  readonly #dir: string;
  readonly #kernel: Kernel;
  readonly #uses: UseOrder;
  readonly #making = new Map<string, Promise<string>>();

  private constructor(dir: string, kernel: Kernel) {
    this.#dir = dir;
    this.#kernel = kernel;
    this.#uses = new UseOrder(dir);
  }

  /** Removes the files of earlier starts of the host and what was half made. */
  static async open(options: { dir: string; bootId: string; kernel: Kernel }): Promise<FlatFiles> {
    await mkdir(options.dir, { recursive: true, mode: 0o700 });
    for (const name of await readdir(options.dir)) {
      if (name !== options.bootId) {
        await rm(join(options.dir, name), { recursive: true, force: true });
      }
    }
    const dir = join(options.dir, options.bootId);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    for (const name of await readdir(dir)) {
      if (name.endsWith(PARTIAL_SUFFIX)) await rm(join(dir, name), { force: true });
    }
    return new FlatFiles(dir, options.kernel);
  }

  /** Whether the generation's flat file is there already. One that was cut is as good as none. */
  async has(generation: Generation): Promise<boolean> {
    return (
      isWhole(besidePath(generation), generation) || isWhole(this.#path(generation), generation)
    );
  }

  /**
   * The generation's flat file, readable by all; made if it is missing. It may be removed at any
   * time: who needs it longer gives it a name of its own. Throws SyscallError EBADMSG, ENOSPC.
   */
  async obtain(generation: Generation): Promise<string> {
    const beside = besidePath(generation);
    if (isWhole(beside, generation)) return beside;
    const path = this.#path(generation);
    await this.#uses.use(basename(path));
    if (isWhole(path, generation)) return path;
    const { buildId } = generation.manifest;
    const making = this.#making.get(buildId) ?? this.#makeShared(generation, path);
    this.#making.set(buildId, making);
    return making.finally(() => this.#making.delete(buildId));
  }

  /**
   * Makes one in the generation's own directory, which is to be removed before long: restores take that
   * one, and with the directory it is gone. Throws as `obtain`.
   */
  async makeBeside(generation: Generation): Promise<void> {
    await this.#make(generation, besidePath(generation));
  }

  async #makeShared(generation: Generation, path: string): Promise<string> {
    await this.#make(generation, path);
    await this.#uses.use(basename(path));
    return path;
  }

  #path(generation: Generation): string {
    return join(this.#dir, `${generation.manifest.buildId}.flat`);
  }

  async #make(generation: Generation, path: string): Promise<void> {
    const partial = `${path}${PARTIAL_SUFFIX}`;
    await rm(partial, { force: true });
    await this.#makeRoom();
    const header = join(generation.directory, MEMORY_HEADER);
    await this.#kernel.memory.flatten(header, [generation.directory], partial);
    await chmod(partial, 0o444);
    await rename(partial, path);
  }

  async #makeRoom(): Promise<void> {
    const names = await readdir(this.#dir);
    // What is being made is the newest, and counts.
    const isMade = (name: string) => !name.endsWith(PARTIAL_SUFFIX);
    const made = await this.#uses.sort(names.filter(isMade));
    const newestFirst = [...names.filter((name) => !isMade(name)), ...made.reverse()];
    let total = 0;
    for (const name of newestFirst) {
      const path = join(this.#dir, name);
      total += ((await stat(path).catch(() => null))?.blocks ?? 0) * BLOCK_BYTES;
      if (total > FLAT_BYTES_MAX && isMade(name)) await rm(path, { force: true });
    }
  }
}

/** Bytes were checked when it was made; what a VMM maps beyond its end would kill it. */
function isWhole(path: string, { manifest: { shape } }: Generation): boolean {
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  return size === shape.memoryMib * MIB;
}

function besidePath({ directory }: Generation): string {
  return join(directory, FLAT_BESIDE);
}
