// Where the memory of a guest lies in its VMM, if that shares no file of it.

import { join } from "node:path";
import { PAGER_DIR, REMOVED_LIST, readRegions, savePageList } from "../memory/pager.ts";
import type { Kernel } from "../native/kernel.ts";
import type { ProcessMemory } from "../native/library.ts";
import type { LiveMemory, MemoryRegion } from "../vmm/vmm.ts";
import type { LiveCapsule } from "./live.ts";
import { SnapshotError } from "./snapshot-error.ts";

const MIB = 1024 * 1024;
const PAGER_TIMEOUT_MS = 30_000;

export interface GuestProcessMemory extends ProcessMemory {
  /** The pager's list of pages given back, "" if there is none. */
  readonly removed: string;
  /** Of memory that the guest has given back; it may have taken some of it again. */
  readonly removedBytes: number;
}

/**
 * Where the process has it. Throws SnapshotError, SyscallError, or VmmError if its pager does not
 * answer.
 */
export async function findProcessMemory(
  kernel: Kernel,
  capsule: Pick<LiveCapsule, "runDir" | "process" | "shape">,
  memory: Exclude<LiveMemory, { kind: "file" }>,
): Promise<GuestProcessMemory> {
  const { runDir, process, shape } = capsule;
  const { pid } = process;
  const totalBytes = shape.memoryMib * MIB;
  const kept = { pid, totalBytes, removed: "", removedBytes: 0 };
  if (memory.kind === "map") {
    const { address, sizeBytes } = await kernel.memory.findMapping(pid, memory.file);
    const offset = Number(sizeBytes);
    if (offset >= totalBytes) return { ...kept, address, high: null };
    // Of more than 3 GiB there are two: the addresses of devices lie between them.
    const rest = await kernel.memory.findMapping(pid, memory.file, offset);
    return { ...kept, address, high: { offset, address: rest.address } };
  }
  if (memory.kind === "anonymous") return { ...kept, ...placed(memory.regions, totalBytes) };
  const regions = await readRegions(runDir, PAGER_TIMEOUT_MS);
  const list = { list: REMOVED_LIST, timeoutMs: PAGER_TIMEOUT_MS } as const;
  const removedBytes = await savePageList(runDir, list);
  const removed = join(runDir, PAGER_DIR, REMOVED_LIST);
  return { ...kept, ...placed(regions, totalBytes), removed, removedBytes };
}

/** Throws SnapshotError unless the regions are all of the memory, in one mapping or two. */
function placed(
  regions: readonly MemoryRegion[],
  totalBytes: number,
): Pick<ProcessMemory, "address" | "high"> {
  const [low, high, ...more] = regions.toSorted((a, b) => a.offset - b.offset);
  const isWhole =
    low?.offset === 0 &&
    more.length === 0 &&
    (high === undefined || high.offset === low.size) &&
    low.size + (high?.size ?? 0) === totalBytes;
  if (!isWhole) throw new SnapshotError("failed", "The VMM has memory of another size");
  const rest = high && { offset: high.offset, address: BigInt(high.address) };
  return { address: BigInt(low.address), high: rest ?? null };
}
