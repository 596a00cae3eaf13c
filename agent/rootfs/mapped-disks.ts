/**
 * Root disks by device-mapper. A disk is a directory, `<capsule>.dm`, that holds the base image (a hard link),
 * what was written over it (an exception store), and its sizes: whole by itself, whatever becomes of the image
 * and of this start of the host. Its device is made from it when a VMM is to use it (mapped-devices.ts).
 *
 * A directory is made under another name, synced and renamed. `<capsule>.dm.replaced` is the disk that a resume
 * replaced, until that has ended; `.dm.aside` the one that is about to be, should the agent die between two renames.
 */

import { existsSync } from "node:fs";
import {
  chmod,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";
import { MappedDevices } from "./mapped-devices.ts";
import { cowBytes, diskSectors, SECTOR_BYTES } from "./mapped-tables.ts";
import {
  type CreateRootDisk,
  checkCapsuleId,
  type LiveDisk,
  type RootDisks,
} from "./root-disks.ts";
import { type SavedDisk, saveExceptions } from "./saved-disk.ts";
import { canSetAside, dropAsides, setAside } from "./set-aside.ts";

const SUFFIX = ".dm";
const COW = "cow";
const BASE = "base.ext4";
const SIZES = "disk.json";

const Sizes = Type.Object({
  sectors: Type.Integer({ minimum: 1 }),
  base: Type.Object({ sha256: Type.String(), sizeBytes: Type.Integer({ minimum: 1 }) }),
});
type Sizes = Static<typeof Sizes>;

export class MappedDisks implements RootDisks {
  readonly kind = "dm";
  readonly losesWrites = true;
  readonly #dir: string;
  readonly #kernel: Kernel;
  readonly #devices: MappedDevices;

  private constructor(options: { dir: string; kernel: Kernel; devices: MappedDevices }) {
    this.#dir = options.dir;
    this.#kernel = options.kernel;
    this.#devices = options.devices;
  }

  /** Throws, saying what is missing, on a kernel without device-mapper. */
  static async open(options: { dir: string; kernel: Kernel; tag: string }): Promise<MappedDisks> {
    const disks = new MappedDisks({ ...options, devices: await MappedDevices.open(options) });
    await disks.#finishRenames();
    return disks;
  }

  async create(disk: CreateRootDisk): Promise<{ path: string }> {
    const { capsuleId } = disk;
    const at = this.#at(capsuleId);
    if (existsSync(at)) throw new Error(`EEXIST: ${at} is there already`);
    await this.#withPartial(disk, (partial) => this.#place(partial, at));
    try {
      return await this.attach(capsuleId);
    } catch (error) {
      await this.remove(capsuleId);
      throw error;
    }
  }

  async replace(disk: CreateRootDisk): Promise<{ path: string }> {
    const { capsuleId } = disk;
    const [at, aside, replaced] = [
      this.#at(capsuleId),
      this.#at(capsuleId, ".aside"),
      this.#at(capsuleId, ".replaced"),
    ];
    await this.#withPartial(disk, async (partial) => {
      await this.#devices.deactivate(capsuleId);
      if (existsSync(at)) await this.#place(at, aside);
      await this.#place(partial, at);
    });
    try {
      const attached = await this.attach(capsuleId);
      // Of several in a row the first is the one that the capsule had.
      if (existsSync(replaced)) await this.#drop(aside);
      else if (existsSync(aside)) await this.#place(aside, replaced);
      return attached;
    } catch (error) {
      await this.#drop(at);
      if (existsSync(aside)) await this.#place(aside, at);
      throw error;
    }
  }

  async putBack(capsuleId: string): Promise<void> {
    const replaced = this.#at(capsuleId, ".replaced");
    if (!existsSync(replaced)) return;
    await this.#devices.deactivate(capsuleId);
    await this.#drop(this.#at(capsuleId));
    await this.#place(replaced, this.#at(capsuleId));
  }

  async canSetAside(capsuleId: string): Promise<boolean> {
    return await canSetAside(this.#at(capsuleId));
  }

  async setAside(capsuleId: string, generation: number): Promise<void> {
    const replaced = this.#at(capsuleId, ".replaced");
    await setAside(this.#at(capsuleId), { replaced, generation });
  }

  async dropAsides(capsuleId: string, generations: readonly number[]): Promise<void> {
    await dropAsides(this.#at(capsuleId), generations);
  }

  /** The VMM opens the device by a node of its own, so that of the host is left to root. */
  async attach(capsuleId: string): Promise<{ path: string }> {
    const at = this.#at(capsuleId);
    const { sectors, base } = await readSizes(at);
    const device = { base: { ...base, path: join(at, BASE) }, cow: join(at, COW), sectors };
    return { path: await this.#devices.activate(capsuleId, device) };
  }

  async detach(capsuleId: string): Promise<void> {
    checkCapsuleId(capsuleId);
    await this.#devices.deactivate(capsuleId);
  }

  live(capsuleId: string): LiveDisk {
    return {
      path: this.#devices.node(capsuleId),
      save: (directory) => this.#save(capsuleId, directory),
    };
  }

  async hold(): Promise<void> {
    await this.#devices.hold();
  }

  async release(): Promise<void> {
    await this.#devices.release();
  }

  async abandon(capsuleId: string): Promise<void> {
    await this.#devices.abandon(capsuleId);
  }

  async remove(capsuleId: string): Promise<void> {
    await this.#devices.deactivate(capsuleId);
    for (const suffix of ["", ".replaced", ".aside", ".partial"]) {
      await this.#drop(this.#at(capsuleId, suffix));
    }
    await this.dropAsides(capsuleId, []);
  }

  async list(): Promise<string[]> {
    const names = await readdir(this.#dir);
    return names
      .filter((name) => name.endsWith(SUFFIX))
      .map((name) => name.slice(0, -SUFFIX.length));
  }

  async allocatedBytes(capsuleId: string): Promise<number> {
    return (await stat(join(this.#at(capsuleId), COW))).blocks * SECTOR_BYTES;
  }

  async #save(capsuleId: string, directory: string): Promise<SavedDisk> {
    const at = this.#at(capsuleId);
    const { sectors, base } = await readSizes(at);
    this.#devices.assertFlows(capsuleId);
    await sync(this.#devices.node(capsuleId));
    const saved = { cow: join(at, COW), base: { ...base, path: join(at, BASE) } };
    const disk = await saveExceptions(directory, {
      ...saved,
      sizeBytes: sectors * SECTOR_BYTES,
      clone: (source, target) =>
        this.#devices.whileStill(capsuleId, () => this.#kernel.storage.clone(source, target)),
    });
    // One that has lost something says so, from then on.
    const { state } = await this.#devices.status(capsuleId);
    if (state !== "active") throw new Error(`The disk of ${capsuleId} has lost data: ${state}`);
    return disk;
  }

  async #withPartial(disk: CreateRootDisk, use: (partial: string) => Promise<void>): Promise<void> {
    const partial = this.#at(disk.capsuleId, ".partial");
    await this.#drop(partial);
    try {
      await this.#fill(partial, disk);
      await use(partial);
    } finally {
      await this.#drop(partial);
    }
  }

  async #fill(partial: string, { base, sizeMib }: CreateRootDisk): Promise<void> {
    const { sha256, sizeBytes, cow } = base;
    const sectors = diskSectors({ sizeMib, baseBytes: Math.max(sizeBytes, cow?.diskBytes ?? 0) });
    await mkdir(partial, { mode: 0o700 });
    const exceptions = join(partial, COW);
    if (cow === undefined) await (await open(exceptions, "wx", 0o600)).close();
    else await this.#kernel.storage.clone(cow.path, exceptions);
    await chmod(exceptions, 0o600);
    await truncate(exceptions, cowBytes(sectors));
    await link(base.path, join(partial, BASE)).catch((cause: unknown) => {
      if (!hasCode(cause, "EXDEV")) throw cause;
      throw new Error(`${base.path} and ${this.#dir} must be on one file system`, { cause });
    });
    const sizes: Sizes = { sectors, base: { sha256, sizeBytes } };
    await writeFile(join(partial, SIZES), JSON.stringify(sizes), { mode: 0o600, flush: true });
    await sync(exceptions);
    await sync(partial);
  }

  async #place(from: string, to: string): Promise<void> {
    await rename(from, to);
    await sync(this.#dir);
  }

  /** Out of sight first: a disk that is half removed must not be taken for one. */
  async #drop(path: string): Promise<void> {
    const removed = `${path}.removed`;
    await rm(removed, { recursive: true, force: true });
    if (!existsSync(path)) return;
    await rename(path, removed);
    await rm(removed, { recursive: true, force: true });
  }

  async #finishRenames(): Promise<void> {
    for (const name of await readdir(this.#dir)) {
      const path = join(this.#dir, name);
      if (/\.dm(\.[a-z]+)?\.removed$/.test(name)) await rm(path, { recursive: true, force: true });
      if (name.endsWith(".dm.partial")) await this.#drop(path);
      if (!name.endsWith(".dm.aside")) continue;
      const at = path.slice(0, -".aside".length);
      if (!existsSync(at)) await this.#place(path, at);
      else if (existsSync(`${at}.replaced`)) await this.#drop(path);
      else await this.#place(path, `${at}.replaced`);
    }
  }

  #at(capsuleId: string, suffix = ""): string {
    checkCapsuleId(capsuleId);
    return join(this.#dir, `${capsuleId}${SUFFIX}${suffix}`);
  }
}

async function readSizes(directory: string): Promise<Sizes> {
  return Value.Parse(Sizes, JSON.parse(await readFile(join(directory, SIZES), "utf8")));
}

async function sync(path: string): Promise<void> {
  await using file = await open(path, "r");
  await file.sync();
}
