// Root disks by device-mapper: a snapshot over an origin, which all disks of one base image and
// size share, and a loop device of a sparse file that takes what is written. The loop devices are
// detached at once: the kernel then lets them go with the last device-mapper device above, so none
// is left to look after.
import {
  chmod,
  chown,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
} from "node:fs/promises";
import { join } from "node:path";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";
import type { BaseImage } from "./images.ts";
import {
  cowBytes,
  diskSectors,
  mappedNode,
  originTable,
  SECTOR_BYTES,
  snapshotTable,
} from "./mapped-tables.ts";
import type { CreateRootDisk } from "./root-disk.ts";

const COW_SUFFIX = ".cow";
const LINK_SUFFIX = ".dm";
// A device stays busy for a moment after its last user is gone: udev looks at it.
const REMOVE_TRIES = 25;
const REMOVE_PAUSE_MS = 40;

export class MappedDisks {
  readonly #dir: string;
  readonly #kernel: Kernel;
  readonly #prefix: string;
  // Origins are shared: none may be removed between its making and the first snapshot on it.
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(options: { dir: string; kernel: Kernel; tag: string }) {
    this.#dir = options.dir;
    this.#kernel = options.kernel;
    this.#prefix = `wrenn-${options.tag}-`;
  }

  /** Throws, saying what is missing, on a kernel without device-mapper. */
  static async open(options: { dir: string; kernel: Kernel; tag: string }): Promise<MappedDisks> {
    try {
      await options.kernel.storage.deviceMapperVersion();
    } catch (cause) {
      const reason = "this kernel has no device-mapper (/dev/mapper/control)";
      throw new Error(`WRENN_COW=dm: ${reason}`, { cause });
    }
    const disks = new MappedDisks(options);
    await disks.#detachStrayLoops((file) => file.startsWith(`${options.dir}/`));
    await disks.#inTurn(() => disks.#removeUnusedOrigins());
    return disks;
  }

  /**
   * Makes the capsule's device, of its uid alone, and returns a link to it. EEXIST if it has one.
   */
  async create(disk: CreateRootDisk): Promise<string> {
    const cow = this.#cowPath(disk.capsuleId);
    // Outside the cleanup below: a disk that is there already is not ours to remove.
    await (await open(cow, "wx", 0o600)).close();
    try {
      return await this.#inTurn(() => this.#build(disk, cow));
    } catch (error) {
      await this.remove(disk.capsuleId);
      throw error;
    }
  }

  path(capsuleId: string): string {
    return join(this.#dir, capsuleId + LINK_SUFFIX);
  }

  async remove(capsuleId: string): Promise<void> {
    await this.#inTurn(async () => {
      await this.#removeDevice(`${this.#prefix}disk-${capsuleId}`);
      await this.#removeUnusedOrigins();
    });
    await rm(this.path(capsuleId), { force: true });
    await rm(this.#cowPath(capsuleId), { force: true });
  }

  async list(): Promise<string[]> {
    const names = await readdir(this.#dir);
    return names
      .filter((name) => name.endsWith(COW_SUFFIX))
      .map((name) => name.slice(0, -COW_SUFFIX.length));
  }

  async allocatedBytes(capsuleId: string): Promise<number> {
    return (await stat(this.#cowPath(capsuleId))).blocks * SECTOR_BYTES;
  }

  async #build(disk: CreateRootDisk, cow: string): Promise<string> {
    const { storage } = this.#kernel;
    const sectors = diskSectors({ sizeMib: disk.sizeMib, baseBytes: disk.base.sizeBytes });
    await truncate(cow, cowBytes(sectors));
    const originDevice = await this.#ensureOrigin(disk.base, sectors);
    const name = `${this.#prefix}disk-${disk.capsuleId}`;
    const loop = await storage.attachLoop(cow, { readOnly: false });
    let node: string;
    try {
      const cowDevice = `/dev/loop${loop}`;
      node = await this.#createDevice(name, snapshotTable({ originDevice, cowDevice, sectors }));
    } finally {
      await storage.detachLoop(loop);
    }

    await chmod(node, 0o600);
    await chown(node, disk.uid, disk.uid);
    const aside = `${this.path(disk.capsuleId)}.new`;
    await rm(aside, { force: true });
    await symlink(node, aside);
    await rename(aside, this.path(disk.capsuleId));
    return this.path(disk.capsuleId);
  }

  // Returns the node of the origin, made unless it is there.
  async #ensureOrigin(base: BaseImage, sectors: number): Promise<string> {
    const { storage } = this.#kernel;
    const name = `${this.#prefix}base-${base.sha256.slice(0, 32)}-${sectors}`;
    const existing = await findMappedNode(name);
    if (existing !== null) return existing;
    await this.#detachStrayLoops((file) => file === base.path);
    const loop = await storage.attachLoop(base.path, { readOnly: true });
    try {
      const baseDevice = `/dev/loop${loop}`;
      const lines = originTable({ baseDevice, baseBytes: base.sizeBytes, sectors });
      return await this.#createDevice(name, lines);
    } finally {
      await storage.detachLoop(loop);
    }
  }

  // A device whose table does not load would keep its name, so it goes.
  async #createDevice(name: string, lines: string[]): Promise<string> {
    const { storage } = this.#kernel;
    const device = await storage.createMapped(name);
    try {
      await storage.loadMapped(name, lines);
      await storage.resumeMapped(name);
    } catch (error) {
      await this.#removeDevice(name);
      throw error;
    }
    return mappedNode(device);
  }

  // One that does not go by itself was attached by an agent that died before it let go of it.
  async #detachStrayLoops(isOurs: (backingFile: string) => boolean): Promise<void> {
    for (const block of await readdir("/sys/block")) {
      const index = /^loop([0-9]+)$/.exec(block)?.[1];
      if (index === undefined) continue;
      const file = await readAttribute(`${block}/loop/backing_file`);
      if (file === null || !isOurs(file)) continue;
      if ((await readAttribute(`${block}/loop/autoclear`)) !== "0") continue;
      await this.#kernel.storage.detachLoop(Number(index));
    }
  }

  async #removeUnusedOrigins(): Promise<void> {
    for (const name of await this.#kernel.storage.listMapped(`${this.#prefix}base-`)) {
      try {
        await this.#kernel.storage.removeMapped(name);
      } catch (error) {
        if (!hasCode(error, "EBUSY", "ENXIO")) throw error;
      }
    }
  }

  async #removeDevice(name: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#kernel.storage.removeMapped(name);
      } catch (error) {
        if (hasCode(error, "ENXIO")) return;
        if (!hasCode(error, "EBUSY") || tries === REMOVE_TRIES) throw error;
      }
      await Bun.sleep(REMOVE_PAUSE_MS);
    }
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(act, act);
    this.#turn = turn;
    return turn;
  }

  #cowPath(capsuleId: string): string {
    return join(this.#dir, capsuleId + COW_SUFFIX);
  }
}

// By sysfs: /dev/mapper is udev's, which may be late or missing.
async function findMappedNode(name: string): Promise<string | null> {
  for (const block of await readdir("/sys/block")) {
    if (!block.startsWith("dm-")) continue;
    if ((await readAttribute(`${block}/dm/name`)) === name) return `/dev/${block}`;
  }
  return null;
}

/** What /sys/block says, or null if the device has no such attribute or is gone. */
async function readAttribute(path: string): Promise<string | null> {
  try {
    return (await readFile(join("/sys/block", path), "utf8")).trimEnd();
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENXIO", "ENODEV")) return null;
    throw error;
  }
}
