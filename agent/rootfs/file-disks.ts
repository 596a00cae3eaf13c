// Root disks that are files: clones that share extents with their base where the file system can, else
// copies without its holes.

import { chown, link, readdir, rename, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";
import { PROBE_PREFIX } from "./probe-reflink.ts";
import {
  type CreateRootDisk,
  checkCapsuleId,
  type LiveDisk,
  type RootDisks,
} from "./root-disks.ts";
import { saveWhole } from "./saved-disk.ts";
import { canSetAside, dropAsides, setAside } from "./set-aside.ts";

const MIB = 1024 * 1024;
const SUFFIX = ".ext4";
const PARTIAL_SUFFIX = ".ext4.partial";
const REPLACED_SUFFIX = ".ext4.replaced";

export class FileDisks implements RootDisks {
  readonly kind: "reflink" | "copy";
  readonly losesWrites = false;
  readonly #dir: string;
  readonly #kernel: Kernel;

  private constructor(options: { kind: "reflink" | "copy"; dir: string; kernel: Kernel }) {
    this.kind = options.kind;
    this.#dir = options.dir;
    this.#kernel = options.kernel;
  }

  /** Removes disks that were half made when the agent died. */
  static async open(options: {
    kind: "reflink" | "copy";
    dir: string;
    kernel: Kernel;
  }): Promise<FileDisks> {
    const disks = new FileDisks(options);
    await disks.#removePartial();
    return disks;
  }

  async create(disk: CreateRootDisk): Promise<{ path: string }> {
    const path = this.#path(disk.capsuleId);
    // Not rename, which would replace a disk that is there.
    await this.#withCopy(disk, (copy) => link(copy, path));
    return { path };
  }

  async replace(disk: CreateRootDisk): Promise<{ path: string }> {
    const { capsuleId } = disk;
    const path = this.#path(capsuleId);
    await this.#withCopy(disk, async (copy) => {
      // Of several in a row the first is the one that the capsule had.
      await link(path, this.#replacedPath(capsuleId)).catch((error: unknown) => {
        if (!hasCode(error, "EEXIST", "ENOENT")) throw error;
      });
      await rename(copy, path);
    });
    return { path };
  }

  async putBack(capsuleId: string): Promise<void> {
    const replaced = this.#replacedPath(capsuleId);
    await rename(replaced, this.#path(capsuleId)).catch((error: unknown) => {
      if (!hasCode(error, "ENOENT")) throw error;
    });
    // Two names of one file, after a crash in the middle of a replacement, are left as they were.
    await rm(replaced, { force: true });
  }

  async canSetAside(capsuleId: string): Promise<boolean> {
    return await canSetAside(this.#path(capsuleId));
  }

  async setAside(capsuleId: string, generation: number): Promise<void> {
    const replaced = this.#replacedPath(capsuleId);
    await setAside(this.#path(capsuleId), { replaced, generation });
  }

  async dropAsides(capsuleId: string, generations: readonly number[]): Promise<void> {
    await dropAsides(this.#path(capsuleId), generations);
  }

  async attach(capsuleId: string, uid: number): Promise<{ path: string }> {
    const path = this.#path(capsuleId);
    await chown(path, uid, uid);
    return { path };
  }

  async detach(): Promise<void> {
    // A file needs nothing.
  }

  live(capsuleId: string): LiveDisk {
    return fileDisk(this.#kernel, this.#path(capsuleId));
  }

  // The VMM hears of a full disk, and can do the write again.
  async hold(): Promise<void> {}
  async release(): Promise<void> {}
  async abandon(): Promise<void> {}

  async remove(capsuleId: string): Promise<void> {
    for (const path of [this.#partialPath(capsuleId), this.#replacedPath(capsuleId)]) {
      await rm(path, { force: true });
    }
    await this.dropAsides(capsuleId, []);
    await rm(this.#path(capsuleId), { force: true });
  }

  async list(): Promise<string[]> {
    const names = await readdir(this.#dir);
    return names
      .filter((name) => name.endsWith(SUFFIX))
      .map((name) => name.slice(0, -SUFFIX.length));
  }

  async allocatedBytes(capsuleId: string): Promise<number> {
    return (await stat(this.#path(capsuleId))).blocks * 512;
  }

  async #withCopy(disk: CreateRootDisk, place: (copy: string) => Promise<void>): Promise<void> {
    if (disk.base.cow !== undefined) {
      throw new Error("This disk was saved with device-mapper: WRENN_COW=dm can use it");
    }
    const partial = this.#partialPath(disk.capsuleId);
    try {
      await this.#copy(disk.base.path, partial);
      await truncate(partial, Math.max(disk.base.sizeBytes, disk.sizeMib * MIB));
      await chown(partial, disk.uid, disk.uid);
      await place(partial);
    } finally {
      await rm(partial, { force: true });
    }
  }

  #path(capsuleId: string): string {
    checkCapsuleId(capsuleId);
    return join(this.#dir, capsuleId + SUFFIX);
  }

  #partialPath(capsuleId: string): string {
    checkCapsuleId(capsuleId);
    return join(this.#dir, capsuleId + PARTIAL_SUFFIX);
  }

  #replacedPath(capsuleId: string): string {
    checkCapsuleId(capsuleId);
    return join(this.#dir, capsuleId + REPLACED_SUFFIX);
  }

  async #copy(source: string, target: string): Promise<void> {
    if (this.kind !== "reflink") return this.#kernel.storage.copySparse(source, target);
    try {
      await this.#kernel.storage.reflink(source, target);
    } catch (error) {
      if (!hasCode(error, "EXDEV")) throw error;
      const reason = `${source} and ${this.#dir} must be on one file system to share extents`;
      throw new Error(`${reason}; WRENN_COW=copy copies instead`, { cause: error });
    }
  }

  async #removePartial(): Promise<void> {
    for (const name of await readdir(this.#dir)) {
      if (name.endsWith(PARTIAL_SUFFIX) || name.startsWith(PROBE_PREFIX)) {
        await rm(join(this.#dir, name), { recursive: true, force: true });
      }
    }
  }
}

/** The disk of a capsule that is this file. */
export function fileDisk(kernel: Kernel, path: string): LiveDisk {
  return { path, save: (directory) => saveWhole(kernel, path, directory) };
}
