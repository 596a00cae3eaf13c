// A channel as the control plane knows it.

import type { channels } from "../db/tables.ts";

export const PROVIDERS = [
  ...(["webhook", "discord", "slack", "teams", "googlechat"] as const),
  ...(["telegram", "matrix", "email"] as const),
] as const;
export type Provider = (typeof PROVIDERS)[number];

export type ChannelRow = typeof channels.$inferSelect;

/** What a provider has to be told, by field, as `provider-config.ts` checked it. */
export type ChannelConfig = Readonly<Record<string, string>>;

/** Attempts that fail in a row until a channel counts as broken, and is only tried now and then. */
export const BROKEN_AFTER_FAILURES = 5;

/** The provider that was written down; throws for one that this version does not know. */
export function toProvider(text: string): Provider {
  const provider = PROVIDERS.find((known) => known === text);
  if (provider === undefined) throw new Error(`Unknown provider of a channel: ${text}`);
  return provider;
}
