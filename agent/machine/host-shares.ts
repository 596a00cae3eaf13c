// What of its disk and network a host gives to a capsule, and whether it can hold one to that.

import type { Cgroups } from "../cgroups/cgroups.ts";
import { findDisk } from "../cgroups/disk-throttle.ts";
import type { Kernel } from "../native/kernel.ts";
import { diskShare, isLimited, networkShare, type Shares } from "../shares.ts";

/** What the settings ask for, the host cannot do; the message names both. */
class SharesError extends Error {
  override readonly name = "SharesError";
}

export interface HostShares {
  /** Of each capsule that has none of its own. */
  readonly standard: Shares;
  /** The disk that WRENN_DIR lies on, as `major:minor`; null: there is none that can be shared out. */
  readonly device: string | null;
}

/** Throws SharesError if the host cannot hold capsules to the shares that its settings name. */
export async function openShares(
  standard: Shares,
  { dir, cgroups, kernel }: { dir: string; cgroups: Cgroups; kernel: Pick<Kernel, "network"> },
): Promise<HostShares> {
  const refuse = (settings: string) => (cause: unknown) => {
    const why = cause instanceof Error ? cause.message : cause;
    throw new SharesError(`This host cannot do what ${settings} say: ${why}`, { cause });
  };
  const find = async () => {
    cgroups.requireDiskShares();
    return await findDisk(dir);
  };
  if (isLimited(networkShare(standard))) {
    await kernel.network.tryRate().catch(refuse("WRENN_NETWORK_*_MBITPS"));
  }
  const device = await find().catch(
    isLimited(diskShare(standard)) ? refuse("WRENN_DISK_*") : () => null,
  );
  return { standard, device };
}
