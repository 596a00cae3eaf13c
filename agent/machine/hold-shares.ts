// Holds capsules to their shares of the host's disk and network.

import { AgentError } from "../errors.ts";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { diskShare, isLimited, networkShare, withOwn } from "../shares.ts";
import type { HostParts } from "./host-parts.ts";

/**
 * Holds a capsule's group and its slot to its shares, whatever they were held to before; those that were made for
 * it just now are held to nothing. Throws AgentError failed_precondition where the host has no disk to share out,
 * and what the kernel refuses.
 */
export async function holdShares(
  { cgroups, network, shares }: Pick<HostParts, "cgroups" | "network" | "shares">,
  { id, shares: own }: CapsuleSpec,
  { slot, before }: { slot: number; before: "nothing" | "unknown" },
): Promise<void> {
  const all = withOwn(shares.standard, own);
  const [disk, ofNetwork] = [diskShare(all), networkShare(all)];
  if (before === "unknown" || isLimited(ofNetwork)) await network.hold(slot, ofNetwork);
  if (before === "nothing" && !isLimited(disk)) return;
  if (shares.device !== null) await cgroups.holdDisk(id, shares.device, disk);
  else if (isLimited(disk)) {
    const message = "This host cannot hold capsules to a share of its disk";
    throw new AgentError("failed_precondition", message, { subject: "host" });
  }
}
