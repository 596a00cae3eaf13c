// Where the memory of a restored guest lies in its VMM.

import { join } from "node:path";
import { FLAT_LINK } from "../memory/guest-ram.ts";
import { type MemorySource, readMemorySource } from "../memory/memory-source.ts";
import { PAGER_DIR, REMOVED_LIST, readRegions, savePageList } from "../memory/pager.ts";
import type { Kernel } from "../native/kernel.ts";
import type { ProcessMemory } from "../native/memory-calls.ts";
import type { CapsuleDir } from "./capsule-dir.ts";
import type { LiveCapsule } from "./live.ts";
import { SnapshotError } from "./snapshot-error.ts";

const MIB = 1024 * 1024;
const PAGER_TIMEOUT_MS = 30_000;

export interface RestoredMemory extends ProcessMemory {
  readonly kind: Exclude<MemorySource["kind"], "boot">;
  /** Of memory that the guest has given back; it may have taken some of it again. */
  readonly removedBytes: number;
}

/**
 * Null for a guest that was booted: its RAM file is its memory. Throws SnapshotError, SyscallError, or
 * VmmError if its pager does not answer.
 */
export async function findRestoredMemory(
  kernel: Kernel,
  capsule: LiveCapsule,
  dir: CapsuleDir,
): Promise<RestoredMemory | null> {
  const { runDir, process, shape } = capsule;
  const { kind } = await readMemorySource(runDir);
  if (kind === "boot") return null;
  const { pid } = process;
  const totalBytes = shape.memoryMib * MIB;
  if (kind === "map") {
    const { address } = await kernel.memory.findMapping(pid, join(dir.base, FLAT_LINK));
    return { kind, pid, address, totalBytes, removed: "", removedBytes: 0 };
  }
  const [region] = await readRegions(runDir, PAGER_TIMEOUT_MS);
  if (region === undefined || region.size !== totalBytes) {
    throw new SnapshotError("failed", "The pager has memory of another size");
  }
  const list = { list: REMOVED_LIST, timeoutMs: PAGER_TIMEOUT_MS } as const;
  const removedBytes = await savePageList(runDir, list);
  const removed = join(runDir, PAGER_DIR, REMOVED_LIST);
  return { kind, pid, address: BigInt(region.address), totalBytes, removed, removedBytes };
}
