// Whether capsules can be held to a share of the disk that WRENN_DIR is on.

import { findDisk } from "../cgroups/disk-throttle.ts";
import { findHierarchies, type Hierarchy } from "../cgroups/hierarchies.ts";
import { type DiskShare, isLimited } from "../shares.ts";
import { nearestDirectory } from "./file-checks.ts";
import { type Finding, failed, ok, sentence, warning } from "./finding.ts";

const CHECK = "disk shares";
const UNIFIED = "boot with systemd.unified_cgroup_hierarchy=1";

export async function checkDiskShares(o: { dir: string; share: DiskShare }): Promise<Finding> {
  const trees = await findHierarchies().catch(() => []);
  const disk = await findDisk(nearestDirectory(o.dir)).catch((error) => new Error(sentence(error)));
  return judgeDiskShares({ share: o.share, trees, disk });
}

/** `disk`: `major:minor`, or why there is none. */
export function judgeDiskShares(o: {
  share: DiskShare;
  trees: readonly Hierarchy[];
  disk: string | Error;
}): Finding {
  const { share, trees, disk } = o;
  const cannot = isLimited(share) ? failed : warning;
  const tree = trees.find(({ controllers }) => controllers.includes("io"));
  if (tree === undefined) {
    const found = "no cgroup controller for io (v2) or blkio (v1): each capsule may take all of it";
    return cannot(CHECK, found, `${UNIFIED}, on a kernel with CONFIG_BLK_DEV_THROTTLING`);
  }
  if (disk instanceof Error) {
    return cannot(CHECK, disk.message, "put WRENN_DIR on a file system of a block device");
  }
  const found = `capsules can be held to a share of ${disk} (${tree.mount}, v${tree.version})`;
  if (tree.controllers.includes("memory")) return ok(CHECK, found);
  const part = `${found}, but for what is written later: that needs memory in the same tree`;
  return isLimited(share) ? warning(CHECK, part, UNIFIED) : ok(CHECK, part);
}
