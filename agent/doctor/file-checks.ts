// What lies in WRENN_DIR, and how much more can.

import { existsSync, type StatsFs } from "node:fs";
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { findGuestKernel, isWhole } from "../rootfs/guest-kernel.ts";
import type { Images } from "../rootfs/images.ts";
import { attempt, type Finding, failed, ok, warning } from "./finding.ts";

const GIB = 1024 ** 3;
/** The disks of some capsules and the memory of some pauses. */
const FREE_BYTES_MIN = 10 * GIB;
/** Below it pauses are refused soon, and file systems get slow. */
const FREE_SHARE_MIN = 0.1;
const INODES_FREE_MIN = 10_000;
const KERNEL = "guest kernel";
const SPACE = "disk space";

export interface Space {
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** Null where the file system makes them as they are needed. */
  readonly freeInodes: number | null;
}

export function checkGuestKernel(kernelsDir: string): Promise<Finding> {
  const remedy = `make artifacts, and put build/kernel/* into ${kernelsDir}`;
  return attempt(KERNEL, { remedy, probe: () => readGuestKernel(kernelsDir, remedy) });
}

async function readGuestKernel(kernelsDir: string, install: string): Promise<Finding> {
  const kernel = await findGuestKernel(kernelsDir);
  const files = [kernel.vmlinux, ...(kernel.initrd === null ? [] : [kernel.initrd])];
  const unknown: string[] = [];
  for (const path of files) {
    const whole = await isWhole(path);
    if (whole === false) return failed(KERNEL, `${path} is not what was installed`, install);
    if (whole === null) unknown.push(path);
  }
  if (unknown.length === 0) return ok(KERNEL, `${files.join(" and ")} are whole`);
  const found = `${unknown.join(" and ")} may be damaged: there is no .sha256 to compare with`;
  return warning(KERNEL, found, "sha256sum it where it was built, into <file>.sha256 beside it");
}

export function checkImages(images: Images): Promise<Finding> {
  const check = "images";
  const remedy = "make artifacts, and install its image again (scripts/setup-host.sh)";
  const probe = async () => {
    const { blobs, templates, faults } = await images.inspect();
    if (faults.length > 0) return failed(check, faults.join("; "), remedy);
    if (templates === 0) return failed(check, "there is no template's image", remedy);
    return ok(check, `${blobs} whole, ${templates} named by templates`);
  };
  return attempt(check, { remedy, probe });
}

/** Of the file system of `dir`, or of where it would be. `read` is statfs(2) but for tests. */
export function checkSpace(
  dir: string,
  read: (path: string) => Promise<StatsFs> = (path) => statfs(path),
): Promise<Finding> {
  const remedy = `find out with stat -f ${dir} what its file system refuses`;
  const probe = async () => judgeSpace(dir, toSpace(await read(nearestDirectory(dir))));
  return attempt(SPACE, { remedy, probe });
}

/** The directory, or the next above it that is there. */
export function nearestDirectory(path: string): string {
  return existsSync(path) ? path : nearestDirectory(dirname(path));
}

function toSpace({ bavail, blocks, bsize, ffree, files }: StatsFs): Space {
  const freeInodes = files === 0 ? null : ffree;
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, freeInodes };
}

export function judgeSpace(dir: string, { freeBytes, totalBytes, freeInodes }: Space): Finding {
  const gib = (bytes: number) => `${(bytes / GIB).toFixed(1)} GiB`;
  const found = `${gib(freeBytes)} of ${gib(totalBytes)} are free for ${dir}`;
  const remedy = "destroy capsules and snapshots that nobody needs, or enlarge the file system";
  if (freeInodes !== null && freeInodes < INODES_FREE_MIN) {
    return failed(SPACE, `only ${freeInodes} inodes are free for ${dir}`, remedy);
  }
  if (freeBytes < FREE_BYTES_MIN) return failed(SPACE, found, remedy);
  if (freeBytes < FREE_SHARE_MIN * totalBytes) return warning(SPACE, found, remedy);
  return ok(SPACE, found);
}
