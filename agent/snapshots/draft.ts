// What a snapshot of a guest that is to run on saves before it stops the guest: its memory, and its
// disk's pages that wait in the host's cache. Then it stands still only for what it writes meanwhile.

import { join } from "node:path";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";
import type { LiveMemory } from "../vmm/vmm.ts";
import type { CapsuleDir } from "./capsule-dir.ts";
import { makeAnew, removeDirectory, sync } from "./durable-files.ts";
import { MEMORY_HEADER } from "./generations.ts";
import type { LiveCapsule } from "./live.ts";
import { findProcessMemory } from "./process-memory.ts";

/** Memory as it was at no one instant, to save what was written since over. Removed when disposed. */
export interface Draft extends AsyncDisposable {
  readonly directory: string;
}

/**
 * Null if there can be none: of a booted guest, whose memory others write to as well, of one that has
 * given memory back, and on a kernel that does not note writes (before Linux 6.7). Throws as sealing
 * does; nothing is left then.
 */
export async function draftMemory(
  kernel: Kernel,
  capsule: LiveCapsule,
  { memory: place, dir }: { memory: LiveMemory; dir: CapsuleDir },
): Promise<Draft | null> {
  await sync(capsule.rootDisk.path);
  if (place.kind === "file" || place.kind === "anonymous") return null;
  const memory = await findProcessMemory(kernel, capsule, place);
  if (memory.removedBytes > 0) return null;
  const directory = dir.draft;
  try {
    await kernel.memory.track(memory);
    await makeAnew(directory);
    await kernel.memory.sealProcess(memory, {
      directory,
      parentHeader: join(dir.base, MEMORY_HEADER),
      layerDirectories: [dir.base],
      id: crypto.randomUUID(),
    });
    return { directory, [Symbol.asyncDispose]: () => removeDirectory(directory) };
  } catch (error) {
    await removeDirectory(directory);
    if (hasCode(error, "EOPNOTSUPP")) return null;
    throw error;
  }
}
