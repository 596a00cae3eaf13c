// Settings of events and channels with wrong values.

import type { WrongSetting } from "./wrong-settings.ts";

export const CHANNELS: readonly WrongSetting[] = [
  {
    setting: "WRENN_EVENT_RETENTION_DAYS",
    value: "0",
    says: "WRENN_EVENT_RETENTION_DAYS must be a number from 1 to 3650",
  },
  {
    setting: "WRENN_CHANNEL_ALLOW_CIDRS",
    value: "10.0.0.0",
    says: "WRENN_CHANNEL_ALLOW_CIDRS must be networks like 10.0.0.0/8, with commas between",
  },
  {
    setting: "WRENN_CHANNEL_KEYS",
    value: "hidden",
    says: "WRENN_CHANNEL_KEYS must be 64 hexadecimal digits each, with commas between",
  },
  {
    setting: "WRENN_TELEGRAM_URL",
    value: "hidden",
    says: "WRENN_TELEGRAM_URL must be a URL that begins with http:// or https://",
  },
];
