// Where the memory of a guest lies in its VMM, if that shares no file of it.

import { join } from "node:path";
import { PAGER_DIR, REMOVED_LIST, readRegions, savePageList } from "../memory/pager.ts";
import type { Kernel } from "../native/kernel.ts";
import type { ProcessMemory } from "../native/memory-calls.ts";
import type { LiveMemory } from "../vmm/vmm.ts";
import type { LiveCapsule } from "./live.ts";
import { SnapshotError } from "./snapshot-error.ts";

const MIB = 1024 * 1024;
const PAGER_TIMEOUT_MS = 30_000;

export interface GuestProcessMemory extends ProcessMemory {
  /** Of memory that the guest has given back; it may have taken some of it again. */
  readonly removedBytes: number;
}

/**
 * Where the process has it. Throws SnapshotError, SyscallError, or VmmError if its pager does not
 * answer.
 */
export async function findProcessMemory(
  kernel: Kernel,
  capsule: LiveCapsule,
  memory: Exclude<LiveMemory, { kind: "file" }>,
): Promise<GuestProcessMemory> {
  const { runDir, process, shape } = capsule;
  const { pid } = process;
  const totalBytes = shape.memoryMib * MIB;
  if (memory.kind === "map") {
    const { address } = await kernel.memory.findMapping(pid, memory.file);
    return { pid, address, totalBytes, removed: "", removedBytes: 0 };
  }
  if (memory.kind === "anonymous") {
    const address = await kernel.memory.findAnonymous(pid, totalBytes);
    return { pid, address, totalBytes, removed: "", removedBytes: 0 };
  }
  const [region] = await readRegions(runDir, PAGER_TIMEOUT_MS);
  if (region === undefined || region.size !== totalBytes) {
    throw new SnapshotError("failed", "The pager has memory of another size");
  }
  const list = { list: REMOVED_LIST, timeoutMs: PAGER_TIMEOUT_MS } as const;
  const removedBytes = await savePageList(runDir, list);
  const removed = join(runDir, PAGER_DIR, REMOVED_LIST);
  return { pid, address: BigInt(region.address), totalBytes, removed, removedBytes };
}
