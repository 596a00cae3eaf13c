// Finds out by trying: what a file system is called says little (XFS may be made without reflink).
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";

/** How the probe's directory is called, for whoever clears up after a killed one. */
export const PROBE_PREFIX = ".probe-";

/**
 * Whether files in `dir` can share extents. Throws if the probe cannot be made at all (no space, no
 * right).
 */
export async function canReflink(kernel: Kernel, dir: string): Promise<boolean> {
  const probe = await mkdtemp(join(dir, PROBE_PREFIX));
  try {
    // A file without blocks may be "cloned" by a file system that can clone nothing else.
    await writeFile(join(probe, "source"), Buffer.alloc(4096, 1));
    await kernel.storage.reflink(join(probe, "source"), join(probe, "target"));
    return true;
  } catch (error) {
    if (hasCode(error, "EOPNOTSUPP", "EINVAL", "ENOTTY", "ENOSYS")) return false;
    throw error;
  } finally {
    await rm(probe, { recursive: true, force: true });
  }
}
