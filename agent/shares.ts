// How fast a capsule may use what all capsules of a host have in common: its disk and its network.

import { DISK_IOPS_MAX, DISK_MIBPS_MAX, NETWORK_MBITPS_MAX } from "../proto/hostagent/bounds.ts";

/** The most of each. */
export const SHARE_BOUNDS = {
  diskReadMibps: DISK_MIBPS_MAX,
  diskWriteMibps: DISK_MIBPS_MAX,
  diskReadIops: DISK_IOPS_MAX,
  diskWriteIops: DISK_IOPS_MAX,
  networkInMbitps: NETWORK_MBITPS_MAX,
  networkOutMbitps: NETWORK_MBITPS_MAX,
} as const;

/** 0: no limit of this one's. */
export type Shares = Readonly<Record<keyof typeof SHARE_BOUNDS, number>>;

export interface DiskShare {
  readonly readBytesPerS: number;
  readonly writeBytesPerS: number;
  readonly readsPerS: number;
  readonly writesPerS: number;
}

export interface NetworkShare {
  /** To the guest, and from it: whole frames, whoever sends them. */
  readonly inBytesPerS: number;
  readonly outBytesPerS: number;
}

export function diskShare(shares: Shares): DiskShare {
  return {
    readBytesPerS: shares.diskReadMibps * 1024 * 1024,
    writeBytesPerS: shares.diskWriteMibps * 1024 * 1024,
    readsPerS: shares.diskReadIops,
    writesPerS: shares.diskWriteIops,
  };
}

export function networkShare(shares: Shares): NetworkShare {
  return {
    inBytesPerS: (shares.networkInMbitps * 1_000_000) / 8,
    outBytesPerS: (shares.networkOutMbitps * 1_000_000) / 8,
  };
}

export function isLimited(share: DiskShare | NetworkShare): boolean {
  return Object.values(share).some((rate) => rate > 0);
}

/** A capsule's own shares, and the host's where it has none. */
export function withOwn(host: Shares, own: Shares | undefined): Shares {
  if (own === undefined) return host;
  const names = Object.keys(SHARE_BOUNDS) as (keyof Shares)[];
  return Object.fromEntries(names.map((name) => [name, own[name] || host[name]])) as Shares;
}
