// Makes and removes the kernel objects of one slot. Removal goes by names alone, so it also clears
// what a killed agent left half made.
import type { Kernel } from "../native/kernel.ts";
import { SLOT_TABLE, slotRules } from "./rules.ts";
import {
  describeLinks,
  describeSlot,
  GATEWAY_ADDRESS,
  GUEST_PREFIX_LENGTH,
  type NetworkSlot,
  TAP,
  UPLINK,
} from "./slot.ts";

/** Of all devices and of those to come; false where the kernel has no IPv6, which is as good. */
const NO_IPV6 = ["net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6"];
const FORWARDING = "net/ipv4/ip_forward";
const SETTINGS_INSIDE = [
  ...NO_IPV6,
  FORWARDING,
  ...[UPLINK, TAP].flatMap((name) => [noIpv6(name), `net/ipv4/conf/${name}/forwarding`]),
];
/** Packets that wait for the guest to take them from its TAP. */
const TAP_QUEUE_LENGTH = 5000;

/** Makes the slot's objects. On failure some may be there: removeSlot clears them. */
export async function buildSlot(kernel: Kernel, tag: string, slot: NetworkSlot): Promise<void> {
  await buildNetns(kernel, tag, slot);
  await connectToHost(kernel, tag, slot);
}

/** What a slot was made as: whatever is not so any more was changed by others. */
export interface SlotMake {
  /** Addresses and routes, which go with their devices and when these are brought down. */
  readonly inside: string;
  readonly outside: string;
  readonly rules: string;
  /** The kernel's settings that we make, and what they made of those of each device. */
  readonly settings: string;
}

/** For checkSlot. Throws if a part of the slot is missing. */
export async function readSlot(kernel: Kernel, tag: string, slot: NetworkSlot): Promise<SlotMake> {
  const { network } = kernel;
  const { veth } = describeLinks(tag, slot.index);
  return {
    inside: await network.listAddressing(slot.netns),
    outside: await network.listAddressing(null, veth),
    rules: await network.runNft(slot.netns, `list table ${SLOT_TABLE}`),
    settings:
      (await network.readSysctls(slot.netns, SETTINGS_INSIDE)) +
      (await network.readSysctls(null, [noIpv6(veth)])),
  };
}

/** Throws if a part of the slot is gone, or is not what it was when it had been made. */
export async function checkSlot(
  kernel: Kernel,
  { tag, slot, make }: { tag: string; slot: NetworkSlot; make: SlotMake },
): Promise<void> {
  const { inside, outside, rules, settings } = await readSlot(kernel, tag, slot);
  if (inside !== make.inside || outside !== make.outside) {
    throw new Error(`Addresses or routes of ${slot.netns} were changed`);
  }
  if (rules !== make.rules) throw new Error(`The firewall of ${slot.netns} was changed`);
  if (settings !== make.settings) throw new Error(`Settings of ${slot.netns} were changed`);
}

/** Removes the slot's objects, as many as there are. */
export async function removeSlot(kernel: Kernel, tag: string, index: number): Promise<void> {
  // The pair first: the kernel destroys a namespace's devices some time after its name is gone, and
  // the host's end must not outlive this call.
  await kernel.network.deleteLink({ netns: null, name: describeLinks(tag, index).veth });
  await kernel.network.deleteNetns(describeSlot(tag, index).netns);
}

async function buildNetns(kernel: Kernel, tag: string, slot: NetworkSlot): Promise<void> {
  const { network } = kernel;
  const links = describeLinks(tag, slot.index);
  const { netns } = slot;

  await network.createNetns(netns);
  for (const key of NO_IPV6) await network.writeSysctl(netns, key, "1");
  // Rules before devices: no packet passes without them.
  await network.runNft(netns, slotRules(slot, links));
  await network.createVeth({ name: links.veth, peer: UPLINK, netns });
  await network.createTap({ netns, name: TAP }, slot.vmmUid);

  await network.addAddress({ netns, name: UPLINK }, at(links.uplinkAddress, 31));
  await network.addAddress({ netns, name: TAP }, at(GATEWAY_ADDRESS, GUEST_PREFIX_LENGTH));
  await network.bringUp({ netns, name: UPLINK });
  await network.bringUp({ netns, name: TAP }, { txQueueLength: TAP_QUEUE_LENGTH });
  const gateway = links.vethAddress;
  await network.addRoute(
    { netns, name: UPLINK },
    { destination: "0.0.0.0", prefixLength: 0, gateway },
  );
  await network.writeSysctl(netns, FORWARDING, "1");
}

async function connectToHost(kernel: Kernel, tag: string, slot: NetworkSlot): Promise<void> {
  const { network } = kernel;
  const { veth, vethAddress, uplinkAddress } = describeLinks(tag, slot.index);
  const device = { netns: null, name: veth };

  await network.writeSysctl(null, noIpv6(veth), "1");
  await network.addAddress(device, at(vethAddress, 31));
  await network.bringUp(device);
  await network.addRoute(device, {
    destination: slot.hostIp,
    prefixLength: 32,
    gateway: uplinkAddress,
  });
}

function noIpv6(device: string): string {
  return `net/ipv6/conf/${device}/disable_ipv6`;
}

function at(address: string, prefixLength: number) {
  return { address, prefixLength };
}
