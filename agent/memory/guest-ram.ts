// Where a booted guest's RAM lies: a file of its own in the run directory, which is a tmpfs. On a file
// system with reflinks it could be cloned by the kernel, at the price of writing the memory of guests
// that run to the disk all the time.

import { chown, open } from "node:fs/promises";
import { join } from "node:path";

const MIB = 1024 * 1024;

/**
 * Makes the RAM file of a new guest: sparse, mode 0600, owned by the VMM's user; whoever touches a
 * page first pays for it, so it is charged to the VMM's cgroup. Returns its path. Rejects with
 * EEXIST if the run directory has one. It goes with the run directory.
 */
export async function createGuestRam(
  runDir: string,
  options: { sizeMib: number; uid: number },
): Promise<string> {
  const path = join(runDir, "ram");
  await using file = await open(path, "wx", 0o600);
  await file.truncate(options.sizeMib * MIB);
  await chown(path, options.uid, options.uid);
  return path;
}
