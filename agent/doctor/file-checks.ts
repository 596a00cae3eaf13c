// What lies in WRENN_DIR, and how much more can.

import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { findGuestKernel, isWhole } from "../rootfs/guest-kernel.ts";
import type { Images } from "../rootfs/images.ts";
import { type Finding, failed, ok, sentence, warning } from "./finding.ts";

const GIB = 1024 ** 3;
/** The disks of some capsules and the memory of some pauses. */
const FREE_BYTES_MIN = 10 * GIB;
/** Below it pauses are refused soon, and file systems get slow. */
const FREE_SHARE_MIN = 0.1;
const INODES_FREE_MIN = 10_000;

export interface Space {
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** Null where the file system makes them as they are needed. */
  readonly freeInodes: number | null;
}

export async function checkGuestKernel(kernelsDir: string): Promise<Finding> {
  const check = "guest kernel";
  const install = `make artifacts, and put build/kernel/* into ${kernelsDir}`;
  const kernel = await findGuestKernel(kernelsDir).catch((error: unknown) => sentence(error));
  if (typeof kernel === "string") return failed(check, kernel, install);
  const files = [kernel.vmlinux, ...(kernel.initrd === null ? [] : [kernel.initrd])];
  const unknown: string[] = [];
  for (const path of files) {
    const whole = await isWhole(path);
    if (whole === false) return failed(check, `${path} is not what was installed`, install);
    if (whole === null) unknown.push(path);
  }
  if (unknown.length === 0) return ok(check, `${files.join(" and ")} are whole`);
  const found = `${unknown.join(" and ")} may be damaged: there is no .sha256 to compare with`;
  return warning(check, found, "sha256sum it where it was built, into <file>.sha256 beside it");
}

export async function checkImages(images: Images): Promise<Finding> {
  const install = "make artifacts, and install its image again (scripts/setup-host.sh)";
  try {
    const { blobs, templates, faults } = await images.inspect();
    if (faults.length > 0) return failed("images", faults.join("; "), install);
    if (templates === 0) return failed("images", "there is no template's image", install);
    return ok("images", `${blobs} whole, ${templates} named by templates`);
  } catch (error) {
    return failed("images", sentence(error), install);
  }
}

/** Of the file system of `dir`, or of where it would be. */
export async function readSpace(dir: string): Promise<Space> {
  if (!existsSync(dir)) return readSpace(dirname(dir));
  const { bavail, blocks, bsize, ffree, files } = await statfs(dir);
  const freeInodes = files === 0 ? null : ffree;
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, freeInodes };
}

export function judgeSpace(dir: string, { freeBytes, totalBytes, freeInodes }: Space): Finding {
  const gib = (bytes: number) => `${(bytes / GIB).toFixed(1)} GiB`;
  const found = `${gib(freeBytes)} of ${gib(totalBytes)} are free for ${dir}`;
  const remedy = "destroy capsules and snapshots that nobody needs, or enlarge the file system";
  if (freeInodes !== null && freeInodes < INODES_FREE_MIN) {
    return failed("disk space", `only ${freeInodes} inodes are free for ${dir}`, remedy);
  }
  if (freeBytes < FREE_BYTES_MIN) return failed("disk space", found, remedy);
  if (freeBytes < FREE_SHARE_MIN * totalBytes) return warning("disk space", found, remedy);
  return ok("disk space", found);
}
