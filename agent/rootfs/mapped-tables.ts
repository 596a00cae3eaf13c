// The device-mapper tables of a root disk and the sizes behind them, computed without asking the
// kernel.

const MIB = 1024 * 1024;
export const SECTOR_BYTES = 512;
/** Exceptions of 8 sectors: a page, and a block of ext4. */
const CHUNK_SECTORS = 8;
/** The header and the first area of exceptions; generous, since the file is sparse. */
const SNAPSHOT_HEADER_BYTES = MIB;
/** Each exception of 4 KiB takes 16 bytes. */
const EXCEPTION_SHARE = 256;

/** The sectors of a disk of that size, which is never smaller than its base. */
export function diskSectors(disk: { sizeMib: number; baseBytes: number }): number {
  return Math.ceil(Math.max(disk.sizeMib * MIB, disk.baseBytes) / SECTOR_BYTES);
}

/**
 * What the snapshot sees below it: the base image, then a hole up to the disk's size. A snapshot
 * cannot be larger than its origin, and the base image never changes. Not the `zero` target: discards
 * pass a snapshot only if all that is below could take them, though none is handed down.
 */
export function originTable(origin: {
  baseDevice: string;
  baseBytes: number;
  /** A device of at least the rest. */
  holeDevice: string;
  sectors: number;
}): string[] {
  const baseSectors = Math.floor(origin.baseBytes / SECTOR_BYTES);
  const base = `0 ${baseSectors} linear ${origin.baseDevice} 0`;
  const rest = origin.sectors - baseSectors;
  return rest === 0 ? [base] : [base, `${baseSectors} ${rest} linear ${origin.holeDevice} 0`];
}

/**
 * A snapshot whose exceptions persist on `cowDevice`. What is discarded becomes zero there, and a hole of
 * the file below: without the argument a discard is refused, and deleted data is kept.
 */
export function snapshotTable(disk: {
  originDevice: string;
  cowDevice: string;
  sectors: number;
}): string[] {
  const { originDevice, cowDevice, sectors } = disk;
  return [
    `0 ${sectors} snapshot ${originDevice} ${cowDevice} P ${CHUNK_SECTORS} 1 discard_zeroes_cow`,
  ];
}

/**
 * A file that holds an exception for every chunk, so that a snapshot overflows only with its file
 * system.
 */
export function cowBytes(sectors: number): number {
  const bytes = sectors * SECTOR_BYTES;
  return SNAPSHOT_HEADER_BYTES + bytes + Math.ceil(bytes / EXCEPTION_SHARE / MIB) * MIB;
}

/**
 * The node of a device number as the ioctl gives it (huge_encode_dev): the minor's upper bits are
 * on top.
 */
export function mappedNode(device: bigint): string {
  const minor = (device & 0xffn) | ((device >> 12n) & 0xfff00n);
  return `/dev/dm-${minor}`;
}
