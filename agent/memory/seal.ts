// Turns a paused capsule into a generation on disk: memory, disk, manifest. Its cost follows what the
// guest wrote since it was restored, never the size of its memory.

import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Failpoints } from "../capsules/failpoints.ts";
import type { Kernel } from "../native/kernel.ts";
import type { PagesTarget } from "../native/library.ts";
import type { CapsuleShape, VmmProcess } from "../vmm/vmm.ts";
import type { CapsuleDir } from "./capsule-dir.ts";
import { cloneFile, linkFiles } from "./durable-files.ts";
import {
  DEVICE_STATE,
  DISK,
  type Generation,
  type Generations,
  MEMORY_HEADER,
} from "./generations.ts";
import { FLAT_LINK } from "./guest-ram.ts";
import { readMemorySource } from "./memory-source.ts";
import { PAGER_DIR, REMOVED_LIST, readRegions, savePageList, WORKING_SET } from "./pager.ts";
import type { PauseNote } from "./pause-note.ts";
import { SnapshotError } from "./snapshot-error.ts";

const MIB = 1024 * 1024;
const PAGER_TIMEOUT_MS = 30_000;
/**
 * A generation of more layers is merged into one. Each layer is an open file of the pager, and holds
 * blocks that later ones hide; merging costs a copy of the memory, behind a pause that was answered.
 */
const LAYERS_MAX = 8;
const MERGED = "merged";

export interface LiveCapsule {
  readonly capsuleId: string;
  readonly runDir: string;
  readonly process: VmmProcess;
  readonly rootDisk: string;
  readonly shape: CapsuleShape;
  readonly kernelVersion: string;
}

export interface SealParts {
  readonly kernel: Kernel;
  readonly generations: Generations;
  readonly dir: CapsuleDir;
  readonly failpoints: Failpoints;
  /** Throws when the guest runs again, after which nothing that was read can be trusted. */
  readonly checkStopped: () => void;
}

/** MUST be called while the guest is stopped. Throws; what is there of the pause stays. */
export async function sealPaused(
  capsule: LiveCapsule,
  pause: PauseNote,
  parts: SealParts,
): Promise<Generation> {
  const { kernel, generations, dir, failpoints, checkStopped } = parts;
  await dir.keepOnly([DEVICE_STATE]);
  let buildId: string = crypto.randomUUID();
  // The disk has its own worker.
  const disk = join(dir.unfinished, DISK);
  const copied = await Promise.allSettled([
    sealMemory(capsule, parts, buildId).then(() => failpoints.reach("seal.after-memory")),
    cloneFile(kernel, capsule.rootDisk, disk).then(() => failpoints.reach("seal.after-disk")),
  ]);
  checkStopped();
  for (const part of copied) {
    if (part.status === "rejected") throw part.reason;
  }
  await chmod(disk, 0o400);
  const layers = await linkParentLayers(parts);
  if (layers.length > LAYERS_MAX) buildId = await mergeLayers(parts, layers);
  failpoints.reach("seal.after-layers");
  return generations.complete(dir.unfinished, dir.generation(pause.generation), {
    capsuleId: capsule.capsuleId,
    generation: pause.generation,
    buildId,
    pausedAt: pause.pausedAt,
    guestKernel: capsule.kernelVersion,
    shape: { vcpus: capsule.shape.vcpus, memoryMib: capsule.shape.memoryMib },
  });
}

async function sealMemory(capsule: LiveCapsule, parts: SealParts, id: string): Promise<void> {
  const { kernel, dir } = parts;
  const { memory } = kernel;
  const { runDir, process } = capsule;
  const totalBytes = capsule.shape.memoryMib * MIB;
  const directory = dir.unfinished;
  const source = await readMemorySource(runDir);
  if (source.kind === "boot") {
    const target: PagesTarget = { directory, parentHeader: "", layerDirectories: [], id };
    await memory.sealFile(join(runDir, "ram"), totalBytes, target);
    return;
  }
  const parentHeader = join(dir.base, MEMORY_HEADER);
  const target: PagesTarget = { directory, parentHeader, layerDirectories: [dir.base], id };
  if (source.kind === "map") {
    const { address } = await memory.findMapping(process.pid, join(dir.base, FLAT_LINK));
    await memory.sealProcess({ pid: process.pid, address, totalBytes, removed: "" }, target);
    return;
  }
  const [region] = await readRegions(runDir, PAGER_TIMEOUT_MS);
  if (region === undefined || region.size !== totalBytes) {
    throw new SnapshotError("failed", "The pager has memory of another size");
  }
  const lists = join(runDir, PAGER_DIR);
  await savePageList(runDir, { list: REMOVED_LIST, timeoutMs: PAGER_TIMEOUT_MS });
  await savePageList(runDir, { list: WORKING_SET, timeoutMs: PAGER_TIMEOUT_MS });
  await copyFile(join(lists, WORKING_SET), join(directory, WORKING_SET));
  const removed = join(lists, REMOVED_LIST);
  const address = BigInt(region.address);
  await memory.sealProcess({ pid: process.pid, address, totalBytes, removed }, target);
}

async function linkParentLayers({ kernel, dir }: SealParts): Promise<string[]> {
  const header = join(dir.unfinished, MEMORY_HEADER);
  const { layers } = await kernel.memory.check(header, [dir.unfinished, dir.base]);
  const missing = layers.filter((name) => !existsSync(join(dir.unfinished, name)));
  await linkFiles(missing, { from: dir.base, to: dir.unfinished });
  return layers;
}

async function mergeLayers({ kernel, dir }: SealParts, layers: string[]): Promise<string> {
  const id = crypto.randomUUID();
  const merged = join(dir.unfinished, MERGED);
  await mkdir(merged, { mode: 0o700 });
  const parentHeader = join(dir.unfinished, MEMORY_HEADER);
  const layerDirectories = [dir.unfinished];
  await kernel.memory.merge({ directory: merged, parentHeader, layerDirectories, id });
  for (const name of layers) await rm(join(dir.unfinished, name));
  for (const name of await readdir(merged)) {
    await rename(join(merged, name), join(dir.unfinished, name));
  }
  await rm(merged, { recursive: true });
  return id;
}
