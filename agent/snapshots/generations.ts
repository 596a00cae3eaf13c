/**
 * Generations on disk: directories that each hold one instant of a capsule, memory, device state and
 * disk, whole and by themselves.
 *
 *   manifest.json  what is there and what can run it, with checksums
 *   device-state   what the VMM held besides memory
 *   memory.header  the index of the memory, and memory.<uuid>, its layers (docs/memory.md)
 *   disk.*         the root disk as it was at that instant (rootfs/saved-disk.ts)
 *   working-set    perhaps: the pages to bring first
 *
 * A layer that several generations show is one file with several names: the file system counts who
 * needs it, deleting a generation is removing its directory, and no count of ours can be wrong after
 * a crash. A directory is written under another name, synced, and renamed, so one that has its name
 * is whole, unless the disk lies; what is checked on every load tells that.
 */

import { existsSync } from "node:fs";
import { copyFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Failpoints } from "../failpoints.ts";
import { WORKING_SET } from "../memory/pager.ts";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";
import {
  checkSavedDisk,
  copySavedDisk,
  type DiskSource,
  savedDiskFiles,
  savedDiskSource,
} from "../rootfs/saved-disk.ts";
import {
  linkFiles,
  makeAnew,
  PARTIAL_SUFFIX,
  readWhole,
  removeDirectory,
  renameDurably,
  sync,
} from "./durable-files.ts";
import type { HostFacts } from "./host-facts.ts";
import { MANIFEST, type Manifest, readManifest, writeManifest } from "./manifest.ts";
import { IncompatibleError, SnapshotError, toSnapshotError } from "./snapshot-error.ts";

export const DEVICE_STATE = "device-state";
export const MEMORY_HEADER = "memory.header";
const ALWAYS_THERE = [MANIFEST, DEVICE_STATE, MEMORY_HEADER] as const;
const MIB = 1024 * 1024;
/** Of hosts whose manifests do not say. */
const PAGE_BYTES = 4096;
// Some 53 KB with QEMU, at most some MB; it is read whole.
const STATE_BYTES_MAX = 256 * MIB;

export interface Generation {
  readonly directory: string;
  readonly manifest: Manifest;
  /** To make root disks from; `sha256` is only an id, as nobody has hashed the disk. */
  readonly disk: DiskSource;
  /** A list of pages to bring first, if one was recorded. */
  readonly workingSet: string | null;
}

export class Generations {
  readonly #kernel: Kernel;
  readonly #host: HostFacts;
  readonly #failpoints: Failpoints;

  constructor(kernel: Kernel, host: HostFacts, failpoints: Failpoints = new Failpoints(null)) {
    this.#kernel = kernel;
    this.#host = host;
    this.#failpoints = failpoints;
  }

  /**
   * Completes a directory that has device state, memory and disk with a manifest, syncs everything
   * and gives it its name. Throws SnapshotError; `directory` is then not there.
   */
  async complete(
    partial: string,
    directory: string,
    facts: Pick<
      Manifest,
      "capsuleId" | "generation" | "buildId" | "pausedAt" | "guestKernel" | "shape" | "disk"
    >,
  ): Promise<Generation> {
    try {
      const header = join(partial, MEMORY_HEADER);
      const { layers } = await this.#kernel.memory.check(header, [partial]);
      await checkSavedDisk(partial, facts.disk);
      await writeManifest(partial, {
        version: 1,
        ...facts,
        vmm: this.#host.vmm,
        cpu: this.#host.cpu,
        pageBytes: this.#host.pageBytes,
        hostKernel: this.#host.kernel,
        files: await Promise.all([DEVICE_STATE, MEMORY_HEADER].map((n) => describe(partial, n))),
        layers,
      });
      this.#failpoints.reach("seal.after-manifest");
      // The header and the layers were synced as they were written.
      await Promise.all([DEVICE_STATE, facts.disk.name].map((name) => sync(join(partial, name))));
      await sync(partial);
      this.#failpoints.reach("seal.after-sync");
      await renameDurably(partial, directory);
      this.#failpoints.reach("seal.after-rename");
      return await toGeneration(directory);
    } catch (error) {
      throw toSnapshotError(`Cannot complete ${directory}`, error);
    }
  }

  /**
   * Checks a generation and returns it: manifest, device state, header, the layers' footers and
   * tables, the disk's size. Throws SnapshotError: not_found, damaged, incompatible.
   */
  async load(directory: string): Promise<Generation> {
    const generation = await toGeneration(directory);
    const { manifest } = generation;
    this.#checkHost(directory, manifest);
    try {
      for (const file of manifest.files) await checkFile(directory, file);
      const header = join(directory, MEMORY_HEADER);
      const { layers, totalBytes } = await this.#kernel.memory.check(header, [directory]);
      if (totalBytes !== manifest.shape.memoryMib * MIB) throw new Error("memory of another size");
      if (layers.join() !== manifest.layers.join()) throw new Error("other layers");
      await checkSavedDisk(directory, manifest.disk);
      return generation;
    } catch (cause) {
      // The agent's own want of something says nothing about the snapshot.
      if (hasCode(cause, "EMFILE", "ENFILE", "ENOMEM", "EACCES", "EPERM")) {
        throw toSnapshotError(`Cannot check ${directory}`, cause);
      }
      const message = `${directory} is torn or was changed: ${String(cause)}`;
      throw new SnapshotError("damaged", message, { cause });
    }
  }

  /** One that only another VMM or processor can use, or that cannot be looked at now, is not. */
  async isDamaged(directory: string): Promise<boolean> {
    try {
      await this.load(directory);
      return false;
    } catch (error) {
      return error instanceof SnapshotError && ["damaged", "not_found"].includes(error.code);
    }
  }

  /**
   * Makes another generation with the same content at `directory`, on the same file system: one
   * that goes on existing when the other is removed. Throws SnapshotError: exists, no_space, failed;
   * nothing is left then.
   */
  async copy(from: Generation, directory: string): Promise<Generation> {
    if (existsSync(directory)) throw new SnapshotError("exists", `${directory} exists`);
    const partial = `${directory}${PARTIAL_SUFFIX}`;
    try {
      await makeAnew(partial);
      this.#failpoints.reach("publish.after-partial");
      await this.linkMemory(from, partial);
      await linkFiles([DEVICE_STATE], { from: from.directory, to: partial });
      if (from.workingSet !== null) await copyFile(from.workingSet, join(partial, WORKING_SET));
      const { disk } = from.manifest;
      await copySavedDisk(this.#kernel, disk, { from: from.directory, to: partial });
      await writeManifest(partial, from.manifest);
      await sync(join(partial, disk.name));
      await sync(partial);
      this.#failpoints.reach("publish.after-sync");
      await renameDurably(partial, directory);
      this.#failpoints.reach("publish.after-rename");
      return await toGeneration(directory);
    } catch (error) {
      await removeDirectory(partial);
      throw toSnapshotError(`Cannot copy ${from.directory}`, error);
    }
  }

  /**
   * Gives all of the generation a second name at `directory`, which nobody may write to: it stays
   * there when the generation goes. Throws SnapshotError; nothing is left then.
   */
  async link(from: Generation, directory: string): Promise<Generation> {
    try {
      await makeAnew(directory);
      const { disk, layers } = from.manifest;
      const names = [...ALWAYS_THERE, ...savedDiskFiles(disk), ...layers];
      if (from.workingSet !== null) names.push(WORKING_SET);
      await linkFiles(names, { from: from.directory, to: directory });
      return await toGeneration(directory);
    } catch (error) {
      await removeDirectory(directory);
      throw toSnapshotError(`Cannot hold ${from.directory}`, error);
    }
  }

  /** Gives `directory` the generation's memory, so that it stays when the generation goes. */
  async linkMemory(from: Generation, directory: string): Promise<void> {
    const names = [MEMORY_HEADER, ...from.manifest.layers];
    await linkFiles(names, { from: from.directory, to: directory });
  }

  #checkHost(directory: string, manifest: Manifest): void {
    const [its, own] = [manifest, this.#host].map(({ vmm, cpu, pageBytes = PAGE_BYTES }) => [
      `${vmm.name} ${vmm.version} with ${vmm.accel}`,
      `processor ${cpu}`,
      `pages of ${pageBytes} bytes`,
    ]);
    const differ = (its ?? []).map((fact, i) => [fact, own?.[i]]).filter(([a, b]) => a !== b);
    if (differ.length === 0) return;
    const [made, here] = [0, 1].map((i) => differ.map((pair) => pair[i]).join(", "));
    throw new IncompatibleError(directory, `made with ${made}, and here is ${here}`);
  }
}

async function toGeneration(directory: string): Promise<Generation> {
  const manifest = await readManifest(directory);
  const workingSet = join(directory, WORKING_SET);
  return {
    directory,
    manifest,
    disk: savedDiskSource(directory, manifest.disk, manifest.buildId.replaceAll("-", "")),
    workingSet: existsSync(workingSet) ? workingSet : null,
  };
}

async function describe(directory: string, name: string): Promise<Manifest["files"][number]> {
  // A VMM that was taken over writes its state as long as it likes.
  const bytes = await readWhole(join(directory, name), STATE_BYTES_MAX);
  return { name, sizeBytes: bytes.length, sha256: hash(bytes) };
}

async function checkFile(directory: string, file: Manifest["files"][number]): Promise<void> {
  const path = join(directory, file.name);
  const { size } = await stat(path).catch((cause: unknown) => {
    if (!hasCode(cause, "ENOENT")) throw cause;
    throw new Error(`${file.name} is missing`, { cause });
  });
  if (size !== file.sizeBytes || size > STATE_BYTES_MAX) {
    throw new Error(`${file.name} has ${size} bytes`);
  }
  // What the header says of itself is checked where it is read.
  if (file.name === MEMORY_HEADER) return;
  const bytes = await readWhole(path, STATE_BYTES_MAX);
  if (hash(bytes) !== file.sha256) throw new Error(`${file.name} was changed`);
}

function hash(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}
