// Shares of disk and network: each has the bounds that creates and administrators meet, too.

import type { WrongSetting } from "./wrong-settings.ts";

const MAXIMA = {
  WRENN_DISK_READ_MIBPS: 65_536,
  WRENN_DISK_WRITE_MIBPS: 65_536,
  WRENN_DISK_READ_IOPS: 10_000_000,
  WRENN_DISK_WRITE_IOPS: 10_000_000,
  WRENN_NETWORK_IN_MBITPS: 100_000,
  WRENN_NETWORK_OUT_MBITPS: 100_000,
};

export const SHARES: readonly WrongSetting[] = Object.entries(MAXIMA).map(([setting, max]) => ({
  setting,
  value: `${max + 1}`,
  says: `${setting} "${max + 1}" is no integer from 0 to ${max}`,
}));
