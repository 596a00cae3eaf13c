// Which guest kernel new capsules boot.

import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type GuestKernel, VmmError } from "../vmm/vmm.ts";

const VERSIONED = /^vmlinux-(\d{1,9}(?:\.\d{1,9}){1,3})$/;
const ELF_MAGIC = "\x7fELF";

/**
 * The kernel in a directory: the highest `vmlinux-<version>` by numbers (6.10 is above 6.9), else a
 * plain `vmlinux`. `initrd-<version>` or `initrd` beside it belongs to it. Throws VmmError if there
 * is neither, or if what there is is no ELF file (a bzImage, say).
 */
export async function findGuestKernel(kernelsDir: string): Promise<GuestKernel> {
  const names = new Set(await readdir(kernelsDir).catch(() => []));
  const versions = [...names].flatMap((name) => VERSIONED.exec(name)?.[1] ?? []);
  const version = versions.sort(compareVersions).at(-1) ?? "";
  const suffix = version === "" ? "" : `-${version}`;
  if (!names.has(`vmlinux${suffix}`)) throw new VmmError(`There is no vmlinux in ${kernelsDir}`);
  const vmlinux = join(kernelsDir, `vmlinux${suffix}`);
  await checkElf(vmlinux);
  const initrd = names.has(`initrd${suffix}`) ? join(kernelsDir, `initrd${suffix}`) : null;
  return { vmlinux, initrd, version };
}

/**
 * Whether a file of a kernel is what was installed, by `<file>.sha256` beside it (as sha256sum writes it).
 * Null: there is none to compare with.
 */
export async function isWhole(path: string): Promise<boolean | null> {
  const wanted = await readFile(`${path}.sha256`, "utf8").catch(() => null);
  if (wanted === null) return null;
  const found = new Bun.CryptoHasher("sha256").update(await readFile(path)).digest("hex");
  return wanted.split(/\s/)[0] === found;
}

/** Orders "6.9" before "6.10", and "6.1" before "6.1.0". */
export function compareVersions(a: string, b: string): number {
  const left = a.split(".").map(Number);
  const right = b.split(".").map(Number);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? -1) - (right[i] ?? -1);
    if (difference !== 0) return difference;
  }
  return 0;
}

async function checkElf(path: string): Promise<void> {
  await using file = await open(path, "r");
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
  if (buffer.subarray(0, bytesRead).toString("latin1") !== ELF_MAGIC) {
    throw new VmmError(`${path} is not an uncompressed ELF kernel`);
  }
}
