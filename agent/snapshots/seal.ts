// Turns a paused capsule into a generation on disk: memory, disk, manifest. Its cost follows what the
// guest wrote since it was restored, never the size of its memory.

import { existsSync } from "node:fs";
import { copyFile, mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Failpoints } from "../failpoints.ts";
import { PAGER_DIR, savePageList, WORKING_SET } from "../memory/pager.ts";
import type { Kernel } from "../native/kernel.ts";
import type { PagesTarget } from "../native/library.ts";
import type { LiveMemory } from "../vmm/vmm.ts";
import type { CapsuleDir } from "./capsule-dir.ts";
import type { Draft } from "./draft.ts";
import { linkFiles } from "./durable-files.ts";
import { DEVICE_STATE, type Generation, type Generations, MEMORY_HEADER } from "./generations.ts";
import type { LiveCapsule } from "./live.ts";
import type { PauseNote } from "./pause-note.ts";
import { findProcessMemory } from "./process-memory.ts";

const MIB = 1024 * 1024;
const PAGER_TIMEOUT_MS = 30_000;
/**
 * A generation of more layers is merged into one. Each layer is an open file of the pager, and holds
 * blocks that later ones hide; merging costs a copy of the memory, behind a pause that was answered.
 */
const LAYERS_MAX = 8;
const MERGED = "merged";

export interface SealParts {
  readonly kernel: Kernel;
  readonly generations: Generations;
  readonly dir: CapsuleDir;
  readonly failpoints: Failpoints;
  /** Made of this VMM just before it was stopped. */
  readonly draft: Draft | null;
  /** Throws when the guest runs again, after which nothing that was read can be trusted. */
  readonly checkStopped: () => void;
  /** Called when all has been read, so that the guest may run on. */
  readonly copied: () => Promise<void>;
}

/** MUST be called while the guest is stopped. Throws; what is there of the pause stays. */
export async function sealPaused(
  capsule: LiveCapsule,
  pause: PauseNote,
  parts: SealParts,
): Promise<Generation> {
  const { generations, dir, failpoints, checkStopped } = parts;
  await dir.keepOnly([DEVICE_STATE]);
  const buildId = crypto.randomUUID();
  // The disk has its own worker.
  const [memory, disk] = await Promise.allSettled([
    sealMemory(capsule, parts, { memory: pause.memory, id: buildId }).then(() =>
      failpoints.reach("seal.after-memory"),
    ),
    saveDisk(capsule, parts),
  ]);
  checkStopped();
  if (memory.status === "rejected") throw memory.reason;
  if (disk.status === "rejected") throw disk.reason;
  const complete = async () => {
    const layers = await linkParentLayers(parts);
    const isMerged = layers.length > LAYERS_MAX;
    const newestId = isMerged ? await mergeLayers(parts, layers) : buildId;
    failpoints.reach("seal.after-layers");
    return generations.complete(dir.unfinished, dir.generation(pause.generation), {
      capsuleId: capsule.capsuleId,
      generation: pause.generation,
      buildId: newestId,
      pausedAt: pause.pausedAt,
      guestKernel: capsule.kernelVersion,
      disk: disk.value,
      shape: { vcpus: capsule.shape.vcpus, memoryMib: capsule.shape.memoryMib },
    });
  };
  const [completed, ran] = await Promise.allSettled([complete(), parts.copied()]);
  if (ran.status === "rejected") throw ran.reason;
  if (completed.status === "rejected") throw completed.reason;
  return completed.value;
}

async function saveDisk({ rootDisk }: LiveCapsule, { dir, failpoints }: SealParts) {
  const saved = await rootDisk.save(dir.unfinished);
  failpoints.reach("seal.after-disk");
  return saved;
}

async function sealMemory(
  capsule: LiveCapsule,
  parts: SealParts,
  { memory: place, id }: { memory: LiveMemory; id: string },
): Promise<void> {
  const { kernel, dir, draft } = parts;
  const { memory } = kernel;
  const { runDir } = capsule;
  const directory = dir.unfinished;
  if (place.kind === "file") {
    const target: PagesTarget = { directory, parentHeader: "", layerDirectories: [], id };
    await memory.sealFile(place.path, capsule.shape.memoryMib * MIB, target);
    return;
  }
  const source = await findProcessMemory(kernel, capsule, place);
  if (place.kind === "uffd") {
    await savePageList(runDir, { list: WORKING_SET, timeoutMs: PAGER_TIMEOUT_MS });
    await copyFile(join(runDir, PAGER_DIR, WORKING_SET), join(directory, WORKING_SET));
  }
  if (place.kind === "anonymous") {
    const target: PagesTarget = { directory, parentHeader: "", layerDirectories: [], id };
    await memory.sealProcess(source, target);
    return;
  }
  const layerDirectories = parentDirectories(parts);
  // What was given back since would be the draft's.
  if (draft !== null && source.removedBytes === 0) {
    const parentHeader = join(draft.directory, MEMORY_HEADER);
    await memory.sealWritten(source, { directory, parentHeader, layerDirectories, id });
    return;
  }
  const parentHeader = join(dir.base, MEMORY_HEADER);
  await memory.sealProcess(source, { directory, parentHeader, layerDirectories, id });
}

function parentDirectories({ dir, draft }: SealParts): string[] {
  return [...(draft === null ? [] : [draft.directory]), dir.base];
}

async function linkParentLayers(parts: SealParts): Promise<string[]> {
  const { kernel, dir } = parts;
  const header = join(dir.unfinished, MEMORY_HEADER);
  const parents = parentDirectories(parts);
  const { layers } = await kernel.memory.check(header, [dir.unfinished, ...parents]);
  for (const from of parents) {
    const names = layers.filter(
      (name) => !existsSync(join(dir.unfinished, name)) && existsSync(join(from, name)),
    );
    await linkFiles(names, { from, to: dir.unfinished });
  }
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
