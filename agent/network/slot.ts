// What a network slot looks like: everything follows from the agent's tag and the slot's number.

import { UID_BASE_DEFAULT } from "../uid-range.ts";

/** Slots are numbered for the whole machine; 32,767 /31 pairs fill 10.12.0.0/16. */
export const SLOT_MAX = 32_767;

/**
 * The guest's only view of the network, the same in every namespace so that snapshots restore
 * anywhere.
 */
export const GUEST_ADDRESS = "169.254.0.21";
export const GATEWAY_ADDRESS = "169.254.0.22";
export const GUEST_PREFIX_LENGTH = 30;

/** Inside the namespace: the end of the veth pair, and the TAP that the VMM opens. */
export const UPLINK = "eth0";
export const TAP = "tap0";

const HOST_IP_BASE = [10, 11] as const;
const VETH_BASE = [10, 12] as const;
const TAG_PATTERN = /^[0-9a-z]{4}$/;

export interface NetworkSlot {
  /** 1..SLOT_MAX, unique on the machine. */
  readonly index: number;
  /** Name under /run/netns. */
  readonly netns: string;
  /** The TAP inside the namespace, which `vmmUid` may open. */
  readonly tap: typeof TAP;
  /** Where the host reaches the guest, all ports. */
  readonly hostIp: string;
  /** The user id, and group id, that the slot's VMM runs as. */
  readonly vmmUid: number;
}

/** The parts of a slot that only this folder needs. */
export interface SlotLinks {
  /** The host's end of the veth pair, at most 15 characters. */
  readonly veth: string;
  readonly vethAddress: string;
  /** The namespace's end of the pair. */
  readonly uplinkAddress: string;
}

/**
 * Throws unless the tag is four characters of 0-9a-z, since names of 15 characters are built on it.
 */
export function checkTag(tag: string): void {
  if (!TAG_PATTERN.test(tag)) {
    throw new Error(`Cannot use tag ${JSON.stringify(tag)}: it must be four characters of 0-9a-z`);
  }
}

export function netnsPrefix(tag: string): string {
  return `wrenn-${tag}-`;
}

export function vethPrefix(tag: string): string {
  return `wv-${tag}-`;
}

/** Throws on a number out of 1..SLOT_MAX. */
export function describeSlot(
  tag: string,
  index: number,
  uidBase: number = UID_BASE_DEFAULT,
): NetworkSlot {
  checkIndex(index);
  return {
    index,
    netns: `${netnsPrefix(tag)}${index}`,
    tap: TAP,
    hostIp: dotted(HOST_IP_BASE, index),
    vmmUid: uidBase + index,
  };
}

export function describeLinks(tag: string, index: number): SlotLinks {
  checkIndex(index);
  return {
    veth: `${vethPrefix(tag)}${index}`,
    vethAddress: dotted(VETH_BASE, 2 * index),
    uplinkAddress: dotted(VETH_BASE, 2 * index + 1),
  };
}

/** The number in a name made of `prefix` and a slot's number, or null for any other name. */
export function parseSlotName(prefix: string, name: string): number | null {
  const digits = name.startsWith(prefix) ? name.slice(prefix.length) : "";
  const index = /^[1-9][0-9]{0,4}$/.test(digits) ? Number(digits) : 0;
  return index >= 1 && index <= SLOT_MAX ? index : null;
}

function checkIndex(index: number): void {
  if (!Number.isInteger(index) || index < 1 || index > SLOT_MAX) {
    throw new Error(`Cannot use slot ${index}: it must be a whole number from 1 to ${SLOT_MAX}`);
  }
}

function dotted(base: readonly [number, number], value: number): string {
  return `${base[0]}.${base[1]}.${value >> 8}.${value & 255}`;
}
