// The root disks of capsules: each a copy-on-write child of a base image. One interface, three ways
// to copy.

import { chown, link, mkdir, readdir, rename, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";
import { MappedDisks } from "./mapped-disks.ts";
import { canReflink, PROBE_PREFIX } from "./probe-reflink.ts";
import type { CowKind, CreateRootDisk } from "./root-disk.ts";

const MIB = 1024 * 1024;
const SUFFIX = ".ext4";
const PARTIAL_SUFFIX = ".ext4.partial";
const REPLACED_SUFFIX = ".ext4.replaced";
// A capsule's id as it appears in file and device names.
const CAPSULE_ID_PATTERN = /^[0-9a-z][0-9a-z-]{0,63}$/;

export class RootDisks {
  readonly kind: CowKind;
  readonly #dir: string;
  readonly #kernel: Kernel;
  readonly #mapped: MappedDisks | null;

  private constructor(options: {
    kind: CowKind;
    dir: string;
    kernel: Kernel;
    mapped: MappedDisks | null;
  }) {
    this.kind = options.kind;
    this.#dir = options.dir;
    this.#kernel = options.kernel;
    this.#mapped = options.mapped;
  }

  /**
   * Picks the way to copy: with "auto" reflink if `dir` can, else copy. Throws, saying why, if the
   * kind asked for cannot work here. Removes disks that were half made when the agent died.
   */
  static async open(options: {
    /** $WRENN_DIR/sandboxes; on one file system with the images. */
    dir: string;
    cow: CowKind | "auto";
    kernel: Kernel;
    tag: string;
  }): Promise<RootDisks> {
    const { dir, kernel, cow } = options;
    await mkdir(dir, { recursive: true, mode: 0o711 });
    const kind = cow === "auto" ? ((await canReflink(kernel, dir)) ? "reflink" : "copy") : cow;
    if (cow === "reflink" && !(await canReflink(kernel, dir))) {
      throw new Error(
        `WRENN_COW=reflink: the file system of ${dir} cannot share extents (XFS and btrfs can)`,
      );
    }
    const mapped = kind === "dm" ? await MappedDisks.open(options) : null;
    const disks = new RootDisks({ kind, dir, kernel, mapped });
    await disks.#removePartial();
    return disks;
  }

  /** Makes the capsule's disk. EEXIST if it has one; on failure none is left. */
  async create(disk: CreateRootDisk): Promise<{ path: string }> {
    checkCapsuleId(disk.capsuleId);
    if (this.#mapped !== null) return { path: await this.#mapped.create(disk) };

    const path = this.path(disk.capsuleId);
    // Not rename, which would replace a disk that is there.
    await this.#withCopy(disk, (copy) => link(copy, path));
    return { path };
  }

  /**
   * Makes the capsule's disk, in place of one that it may have, which is kept beside it until
   * `dropReplaced` or `putBack`; on failure the disk that was there is still in its place. Where disks
   * are mapped, nothing is kept.
   */
  async replace(disk: CreateRootDisk): Promise<{ path: string }> {
    const { capsuleId } = disk;
    const path = this.path(capsuleId);
    if (this.#mapped !== null) {
      await this.#mapped.remove(capsuleId);
      return this.create(disk);
    }
    await this.#withCopy(disk, async (copy) => {
      // Of several in a row the first is the one that the capsule had.
      await link(path, this.#replacedPath(capsuleId)).catch((error: unknown) => {
        if (!hasCode(error, "EEXIST", "ENOENT")) throw error;
      });
      await rename(copy, path);
    });
    return { path };
  }

  /** Gives the capsule the disk back that was replaced; nothing happens if none was. */
  async putBack(capsuleId: string): Promise<void> {
    const replaced = this.#replacedPath(capsuleId);
    await rename(replaced, this.path(capsuleId)).catch((error: unknown) => {
      if (!hasCode(error, "ENOENT")) throw error;
    });
    // Two names of one file, after a crash in the middle of a replacement, are left as they were.
    await rm(replaced, { force: true });
  }

  /** Removes the disk that was replaced; nothing happens if none was. */
  async dropReplaced(capsuleId: string): Promise<void> {
    checkCapsuleId(capsuleId);
    await rm(this.#replacedPath(capsuleId), { force: true });
  }

  /** Where the capsule's disk is, if it has one. */
  path(capsuleId: string): string {
    checkCapsuleId(capsuleId);
    return this.#mapped?.path(capsuleId) ?? join(this.#dir, capsuleId + SUFFIX);
  }

  /** Removes the capsule's disk, whose VMM must have ended; nothing happens if there is none. */
  async remove(capsuleId: string): Promise<void> {
    checkCapsuleId(capsuleId);
    if (this.#mapped !== null) return this.#mapped.remove(capsuleId);
    for (const path of [this.#partialPath(capsuleId), this.#replacedPath(capsuleId)]) {
      await rm(path, { force: true });
    }
    await rm(this.path(capsuleId), { force: true });
  }

  /** The ids of capsules that have a disk. */
  async list(): Promise<string[]> {
    if (this.#mapped !== null) return this.#mapped.list();
    const names = await readdir(this.#dir);
    return names
      .filter((name) => name.endsWith(SUFFIX))
      .map((name) => name.slice(0, -SUFFIX.length));
  }

  /** What the disk takes on the host's file system; a clone counts shared extents too. ENOENT. */
  async allocatedBytes(capsuleId: string): Promise<number> {
    if (this.#mapped !== null) return this.#mapped.allocatedBytes(capsuleId);
    return (await stat(this.path(capsuleId))).blocks * 512;
  }

  async #withCopy(disk: CreateRootDisk, place: (copy: string) => Promise<void>): Promise<void> {
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

  #partialPath(capsuleId: string): string {
    return join(this.#dir, capsuleId + PARTIAL_SUFFIX);
  }

  #replacedPath(capsuleId: string): string {
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

function checkCapsuleId(capsuleId: string): void {
  if (!CAPSULE_ID_PATTERN.test(capsuleId)) {
    throw new Error(`Cannot use capsule id ${JSON.stringify(capsuleId)} in a file name`);
  }
}
