// What a VMM is given so that a guest finds its memory again.

import { link } from "node:fs/promises";
import { join } from "node:path";
import { UID_COUNT } from "../uid-range.ts";
import type { GuestMemory, VmmSpec } from "../vmm/vmm.ts";
import type { CapsuleDir } from "./capsule-dir.ts";
import type { FlatFiles } from "./flat-files.ts";
import { type Generation, MEMORY_HEADER } from "./generations.ts";
import { SnapshotError } from "./snapshot-error.ts";

/** docs/memory.md says when which. */
export type RestoreMode = "map" | "uffd";

/** The pager's user is nobody else's: those of VMMs end below. */
const PAGER_UID_OFFSET = UID_COUNT / 2;
/** The flat file that a guest was restored from by mapping, in the capsule's base directory. */
const FLAT_LINK = "flat";

/** `dir.base` has the generation's memory. Throws as making the flat file does, for `map`. */
export async function memoryToRestore(
  mode: RestoreMode,
  options: { spec: VmmSpec; generation: Generation; dir: CapsuleDir; flatFiles: FlatFiles },
): Promise<GuestMemory> {
  const { spec, generation, dir, flatFiles } = options;
  if (mode === "map") {
    // A name of its own: the flat file may be removed while the VMM lives.
    const file = join(dir.base, FLAT_LINK);
    await link(await flatFiles.obtain(generation), file);
    return { kind: "map", file };
  }
  const pager = {
    header: join(dir.base, MEMORY_HEADER),
    layerDirectories: [dir.base],
    uid: spec.uid + PAGER_UID_OFFSET,
    workingSet: generation.workingSet,
  };
  return { kind: "uffd", pager };
}

/** Throws SnapshotError incompatible unless the VMM is for a guest like that. */
export function checkFits(spec: VmmSpec, { directory, manifest }: Generation): void {
  const { shape, guestKernel } = manifest;
  const its = `${shape.vcpus} CPUs, ${shape.memoryMib} MiB, kernel ${guestKernel}`;
  const wanted = `${spec.vcpus} CPUs, ${spec.memoryMib} MiB, kernel ${spec.kernel.version}`;
  if (its === wanted) return;
  throw new SnapshotError("incompatible", `${directory} is of ${its}, and not of ${wanted}`);
}
