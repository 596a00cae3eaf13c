// Holds capsules to their shares of the host's disk and network.

import { AgentError } from "../errors.ts";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { diskShare, isLimited, networkShare, withOwn } from "../shares.ts";
import { capsuleRunDir } from "./capsule-paths.ts";
import type { HostParts } from "./host-parts.ts";

/** What they were held to before. */
type Before = "nothing" | "unknown";

/**
 * Holds a capsule's group and its slot to its shares, whatever they were held to before; those that were made for
 * it just now are held to nothing. Throws AgentError failed_precondition where the host has no disk to share out,
 * and what the kernel refuses.
 */
export async function holdShares(
  { cgroups, network, shares }: Pick<HostParts, "cgroups" | "network" | "shares">,
  { id, shares: own }: CapsuleSpec,
  { slot, before }: { slot: number; before: Before },
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

/** Holds the devices that its VMM has for it to the same. Throws VmmError. */
export async function holdDevices(
  { vmm, shares, runDir }: Pick<HostParts, "vmm" | "shares" | "runDir">,
  { id, shares: own }: CapsuleSpec,
  before: Before,
): Promise<void> {
  const all = withOwn(shares.standard, own);
  const [disk, network] = [diskShare(all), networkShare(all)];
  if (before === "nothing" && !isLimited(disk) && !isLimited(network)) return;
  await vmm.hold(capsuleRunDir(runDir, id), { disk, network });
}
