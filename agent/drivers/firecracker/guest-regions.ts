/**
 * Where Firecracker has the memory of a guest that it booted: in anonymous mappings, which nothing names. Up to 3 GiB
 * it is one, of that size. More is two, since the addresses of devices lie between (arch/x86_64/layout.rs). The second
 * one is made right after the first; Linux places it below that, and shows both as one.
 */

import { open, readFile } from "node:fs/promises";
import { type MemoryRegion, VmmError } from "../../vmm/vmm.ts";

/** MMIO32_MEM_START. */
const LOW_BYTES = 3 * 1024 ** 3;
/** CMDLINE_START: Linux leaves the first MiB alone, so the command line stays there. */
const CMDLINE_AT = 0x20000;
/** Written and read by its process alone; no file, no stack, no heap. */
const ANONYMOUS = /^([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *$/gm;

/** In the order of the guest's addresses. Throws VmmError if it is not clear where its memory is. */
export async function findGuestRegions(
  pid: number,
  { totalBytes, cmdline }: { totalBytes: number; cmdline: string },
): Promise<MemoryRegion[]> {
  const candidates = possibleRegions(await readFile(`/proc/${pid}/maps`, "latin1"), totalBytes);
  if (candidates.length === 1 && candidates[0] !== undefined) return candidates[0];
  for (const regions of candidates) {
    if (await hasCmdline(pid, regions[0]?.address ?? 0, cmdline)) return regions;
  }
  throw new VmmError(`Firecracker's memory of ${totalBytes} bytes is not found in its mappings`);
}

/** Exported for its test: by the text of /proc/<pid>/maps. */
export function possibleRegions(maps: string, totalBytes: number): MemoryRegion[][] {
  const mappings = [...maps.matchAll(ANONYMOUS)].map(([, start = "", end = ""]) => {
    const address = Number.parseInt(start, 16);
    return { address, size: Number.parseInt(end, 16) - address };
  });
  const ofSize = (size: number) => mappings.filter((mapping) => mapping.size === size);
  const highBytes = totalBytes - LOW_BYTES;
  if (highBytes <= 0) return ofSize(totalBytes).map((mapping) => [{ ...mapping, offset: 0 }]);
  const two = (low: number, high: number): MemoryRegion[] => [
    { address: low, size: LOW_BYTES, offset: 0 },
    { address: high, size: highBytes, offset: LOW_BYTES },
  ];
  return [
    ...ofSize(totalBytes).flatMap(({ address }) => [
      two(address + highBytes, address),
      two(address, address + LOW_BYTES),
    ]),
    ...ofSize(LOW_BYTES).flatMap((low) =>
      ofSize(highBytes)
        .filter((high) => high.address !== low.address)
        .map((high) => two(low.address, high.address)),
    ),
  ];
}

async function hasCmdline(pid: number, address: number, cmdline: string): Promise<boolean> {
  const wanted = Buffer.from(cmdline);
  await using memory = await open(`/proc/${pid}/mem`);
  const found = Buffer.alloc(wanted.length);
  await memory.read(found, 0, found.length, address + CMDLINE_AT);
  return found.equals(wanted);
}
