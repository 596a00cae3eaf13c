/**
 * The device-mapper devices of root disks, which are there only while a VMM may use them: a snapshot over an
 * origin, which all disks of one base image and size share, and a loop device of the file that takes what is
 * written. The loop devices are detached at once: the kernel then lets them go with the device above, so none
 * is left to look after.
 *
 * A snapshot whose file finds no room for what is written is lost as a whole, at once and for good: the kernel marks
 * it invalid. So whoever looks after the room has the devices hold what is written, in time (`hold`, `release`).
 *
 * A device is known by its name, which carries the agent's tag, and never by a link or a number that was
 * written down: numbers are given to others after a reboot.
 */

import { readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import type { Kernel, SnapshotStatus } from "../native/kernel.ts";
import { hasCode, SyscallError } from "../native/syscall-error.ts";
import type { BaseImage } from "./images.ts";
import { mappedNode, originTable, SECTOR_BYTES, snapshotTable } from "./mapped-tables.ts";

// A device stays busy for a moment after its last user is gone: udev looks at it.
const REMOVE_TRIES = 100;
const REMOVE_PAUSE_MS = 40;
const HOLE = ".hole";

export interface MappedDevice {
  readonly base: BaseImage;
  /** The exception store, as large as cowBytes says. */
  readonly cow: string;
  readonly sectors: number;
}

export class MappedDevices {
  readonly #kernel: Kernel;
  readonly #dir: string;
  readonly #prefix: string;
  readonly #nodes = new Map<string, string>();
  /** Capsules whose devices hold I/O, or may do so since an earlier agent. */
  readonly #held = new Set<string>();
  #isHolding = false;
  /** Of them and of others those that `whileStill` has suspended, and lets go on in the end. */
  readonly #still = new Set<string>();
  // Origins are shared: none may be removed between its making and the first snapshot on it.
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(options: { dir: string; kernel: Kernel; tag: string }) {
    this.#kernel = options.kernel;
    this.#dir = options.dir;
    this.#prefix = `wrenn-${options.tag}-`;
  }

  /**
   * Takes up the devices that an earlier agent made since the host started, and removes what it left half
   * made; loop devices only of files below `dir`. Throws, saying what is missing, on a kernel without
   * device-mapper.
   */
  static async open(options: { dir: string; kernel: Kernel; tag: string }): Promise<MappedDevices> {
    try {
      await options.kernel.storage.deviceMapperVersion();
    } catch (cause) {
      const reason = "this kernel has no device-mapper (/dev/mapper/control)";
      throw new Error(`WRENN_COW=dm: ${reason}`, { cause });
    }
    const devices = new MappedDevices(options);
    await devices.#detachStrayLoops((file) => file.startsWith(`${options.dir}/`));
    await devices.#adopt();
    return devices;
  }

  /** Makes the capsule's device, unless it is there, and returns its node. On failure there is none. */
  activate(capsuleId: string, device: MappedDevice): Promise<string> {
    return this.#inTurn(async () => {
      const existing = this.#nodes.get(capsuleId);
      if (existing !== undefined) return existing;
      if (this.#isHolding) throw noRoom(`make the device of ${capsuleId}`);
      const node = await this.#build(capsuleId, device).catch(async (error: unknown) => {
        await this.#removeUnusedOrigins();
        throw error;
      });
      this.#nodes.set(capsuleId, node);
      return node;
    });
  }

  /** Removes the capsule's device, if there is one. Throws SyscallError EBUSY while somebody uses it. */
  deactivate(capsuleId: string): Promise<void> {
    return this.#inTurn(async () => {
      await this.#removeDevice(this.#nameOf(capsuleId));
      this.#nodes.delete(capsuleId);
      this.#held.delete(capsuleId);
      await this.#removeUnusedOrigins();
    });
  }

  /** Throws if the capsule has no device. */
  node(capsuleId: string): string {
    const node = this.#nodes.get(capsuleId);
    if (node === undefined) throw new Error(`The disk of ${capsuleId} is not attached`);
    return node;
  }

  /** Of a device that is there. */
  async status(capsuleId: string): Promise<SnapshotStatus> {
    const line = await this.#kernel.storage.statusMapped(this.#nameOf(capsuleId));
    return this.#kernel.classifySnapshot(line);
  }

  /** Has all devices hold what is read and written, until `release`; meanwhile no device is made. */
  hold(): Promise<void> {
    return this.#inTurn(async () => {
      this.#isHolding = true;
      for (const [capsuleId] of this.#nodes) {
        if (this.#held.has(capsuleId)) continue;
        const isStill = this.#still.has(capsuleId);
        if (!isStill) await this.#kernel.storage.holdMapped(this.#nameOf(capsuleId));
        this.#held.add(capsuleId);
      }
    });
  }

  /** Lets go on what was held, by an earlier agent too. */
  release(): Promise<void> {
    return this.#inTurn(async () => {
      this.#isHolding = false;
      for (const capsuleId of this.#held) {
        const isStill = this.#still.has(capsuleId);
        if (!isStill) await this.#kernel.storage.resumeMapped(this.#nameOf(capsuleId));
        this.#held.delete(capsuleId);
      }
    });
  }

  /** Lets what is held of a capsule fail: its VMM could not end before. What it wrote since is lost. */
  abandon(capsuleId: string): Promise<void> {
    return this.#inTurn(async () => {
      const node = this.#nodes.get(capsuleId);
      if (node === undefined || !this.#held.has(capsuleId)) return;
      const name = this.#nameOf(capsuleId);
      const sectors = (await this.#kernel.storage.sizeBytes(node)) / SECTOR_BYTES;
      await this.#kernel.storage.loadMapped(name, [`0 ${sectors} error`]);
      await this.#kernel.storage.resumeMapped(name);
      this.#held.delete(capsuleId);
      this.#nodes.delete(capsuleId);
    });
  }

  /** Throws SyscallError ENOSPC while the capsule's device holds I/O: whoever waits for that may wait long. */
  assertFlows(capsuleId: string): void {
    if (this.#isHolding && this.#held.has(capsuleId)) throw noRoom(`write ${capsuleId}`);
  }

  /**
   * Calls `read` while all that was written to the device is in its exception store, and nothing is being
   * written: what waits in the host's cache is written out first.
   */
  async whileStill(capsuleId: string, read: () => Promise<void>): Promise<void> {
    const name = this.#nameOf(capsuleId);
    this.#still.add(capsuleId);
    try {
      await this.#kernel.storage.suspendMapped(name);
      await read();
    } finally {
      this.#still.delete(capsuleId);
      const isHeld = this.#isHolding && this.#held.has(capsuleId);
      if (!isHeld) await this.#kernel.storage.resumeMapped(name);
    }
  }

  #nameOf(capsuleId: string): string {
    return `${this.#prefix}disk-${capsuleId}`;
  }

  async #adopt(): Promise<void> {
    const { storage } = this.#kernel;
    const prefix = this.#nameOf("");
    for (const name of await storage.listMapped(prefix)) {
      const node = await findMappedNode(name);
      const status = await storage.statusMapped(name).catch((error: unknown) => {
        // No table: an agent died before it had loaded one.
        if (hasCode(error, "ENXIO")) return null;
        throw error;
      });
      const capsuleId = name.slice(prefix.length);
      if (node === null || status === null) {
        await this.#removeDevice(name);
        continue;
      }
      this.#nodes.set(capsuleId, node);
      this.#held.add(capsuleId);
    }
    await this.#inTurn(() => this.#removeUnusedOrigins());
  }

  async #build(capsuleId: string, { base, cow, sectors }: MappedDevice): Promise<string> {
    const { storage } = this.#kernel;
    const originDevice = await this.#ensureOrigin(base, sectors);
    const name = this.#nameOf(capsuleId);
    const loop = await storage.attachLoop(cow, { readOnly: false });
    try {
      const cowDevice = `/dev/loop${loop}`;
      const node = await this.#createDevice(
        name,
        snapshotTable({ originDevice, cowDevice, sectors }),
      );
      const { state } = this.#kernel.classifySnapshot(await storage.statusMapped(name));
      if (state === "active") return node;
      await this.#removeDevice(name);
      throw new Error(`What ${capsuleId} wrote to its disk cannot be read: ${state}`);
    } finally {
      await storage.detachLoop(loop);
    }
  }

  // Returns the node of the origin, made unless it is there.
  async #ensureOrigin(base: BaseImage, sectors: number): Promise<string> {
    const { storage } = this.#kernel;
    const name = `${this.#prefix}base-${base.sha256.slice(0, 32)}-${sectors}`;
    const existing = await findMappedNode(name);
    if (existing !== null) return existing;
    await this.#detachStrayLoops((file) => file === base.path);
    const loops: number[] = [];
    try {
      loops.push(await storage.attachLoop(base.path, { readOnly: true }));
      loops.push(await this.#attachHole(sectors * SECTOR_BYTES));
      const [baseDevice = "", holeDevice = ""] = loops.map((loop) => `/dev/loop${loop}`);
      const origin = { baseDevice, holeDevice, baseBytes: base.sizeBytes, sectors };
      return await this.#createDevice(name, originTable(origin));
    } finally {
      for (const loop of loops) await storage.detachLoop(loop);
    }
  }

  /** Of a file that has no name any more: it goes with its device. */
  async #attachHole(sizeBytes: number): Promise<number> {
    const hole = join(this.#dir, HOLE);
    await rm(hole, { force: true });
    try {
      await writeFile(hole, "", { mode: 0o400 });
      await truncate(hole, sizeBytes);
      return await this.#kernel.storage.attachLoop(hole, { readOnly: true });
    } finally {
      await rm(hole, { force: true });
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
}

function noRoom(operation: string): SyscallError {
  return new SyscallError(operation, -constants.errno.ENOSPC, "the disk below is nearly full");
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
