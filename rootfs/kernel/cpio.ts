// Writes the initrd: a cpio archive in the kernel's "newc" format
// (Documentation/driver-api/early-userspace/buffer-format.rst). Same entries, same bytes: no times,
// no owners, numbers in order. It is not compressed, since unpacking costs the guest more than
// reading a few hundred kilobytes.

export interface CpioEntry {
  readonly path: string;
  /** File type and permissions as in st_mode. */
  readonly mode: number;
  readonly data?: Uint8Array;
  /** Device numbers of a character device. */
  readonly device?: { readonly major: number; readonly minor: number };
}

const TRAILER = "TRAILER!!!";
const ALIGNMENT = 4;

/** The archive's bytes, entries in the order given (a directory before what is in it). */
export function cpioArchive(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  entries.forEach((entry, i) => {
    parts.push(...record(entry, i + 1));
  });
  parts.push(...record({ path: TRAILER, mode: 0 }, 0));
  return Buffer.concat(parts);
}

function record(entry: CpioEntry, inode: number): Uint8Array[] {
  const name = Buffer.from(`${entry.path}\0`);
  const data = entry.data ?? new Uint8Array();
  const fields = [
    inode,
    entry.mode,
    0, // uid
    0, // gid
    1, // links
    0, // mtime
    data.length,
    0, // device of the file system
    0,
    entry.device?.major ?? 0,
    entry.device?.minor ?? 0,
    name.length,
    0, // checksum, unused in this format
  ];
  const header = Buffer.from(`070701${fields.map(hex8).join("")}`);
  return [header, name, padding(header.length + name.length), data, padding(data.length)];
}

function hex8(value: number): string {
  return value.toString(16).padStart(8, "0");
}

function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}
