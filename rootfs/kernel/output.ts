// Where finished kernels lie: vmlinux-<version>, initrd-<version> if it needs one, and a stamp that
// says what they were made from.

import { rename, rm } from "node:fs/promises";
import { join } from "node:path";

export interface KernelStamp {
  /** Debian's own, with an initrd, or ours, with everything built in. */
  readonly kind: "debian" | "optimised";
  readonly version: string;
  readonly inputs: string;
}

const STAMP = "kernel.json";

/** The stamp of the kernel in `dir`, or null if there is none or its kernel is gone. */
export async function readStamp(dir: string): Promise<KernelStamp | null> {
  const file = Bun.file(join(dir, STAMP));
  if (!(await file.exists())) return null;
  const stamp: KernelStamp = await file.json();
  return (await Bun.file(join(dir, `vmlinux-${stamp.version}`)).exists()) ? stamp : null;
}

/** Puts a kernel in place, each file aside first and the stamp last. */
export async function writeKernel(
  dir: string,
  files: { readonly vmlinux: Uint8Array; readonly initrd: Uint8Array | null },
  stamp: KernelStamp,
): Promise<void> {
  const initrd = `initrd-${stamp.version}`;
  if (files.initrd) await replace(join(dir, initrd), files.initrd);
  await replace(join(dir, `vmlinux-${stamp.version}`), files.vmlinux);
  if (!files.initrd) await rm(join(dir, initrd), { force: true });
  await replace(join(dir, STAMP), Buffer.from(`${JSON.stringify(stamp)}\n`));
}

async function replace(path: string, data: Uint8Array): Promise<void> {
  await Bun.write(`${path}.aside`, data);
  await rename(`${path}.aside`, path);
}
