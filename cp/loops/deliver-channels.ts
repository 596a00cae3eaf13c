// Loops: tell channels what they wait for, give up what waited too long, and encrypt their configs with the first key.

import type { Channels } from "../channels/service.ts";
import type { Deliverer } from "../deliveries/deliverer.ts";
import type { Loop } from "./driver.ts";

export const DELIVER_CHANNELS = "deliver-channels";
/** What was placed here is delivered at once; this is for retries, and for what others left. */
const EVERY_MS = 1000;
const EXPIRE_EVERY_MS = 60_000;

export function deliverChannelsLoop(deliverer: Deliverer): Loop {
  const run = () => deliverer.pass();
  return { name: DELIVER_CHANNELS, everyMs: EVERY_MS, isBusy: true, run };
}

export function expireDeliveriesLoop(deliverer: Deliverer): Loop {
  return { name: "expire-deliveries", everyMs: EXPIRE_EVERY_MS, run: () => deliverer.expire() };
}

export function resealChannelsLoop(channels: Channels): Loop {
  return {
    name: "reseal-channels",
    everyMs: EXPIRE_EVERY_MS,
    run: async () => ({ resealed: await channels.reseal() }),
  };
}
