// What there is to be told of.

/** What channels can be asked to tell, each with its successes and its failures. */
export const CHANNEL_EVENTS = [
  "capsule.create",
  "capsule.pause",
  "capsule.resume",
  "capsule.destroy",
  "template.snapshot.create",
  "template.snapshot.delete",
  "host.up",
  "host.down",
] as const;
export type ChannelEvent = (typeof CHANNEL_EVENTS)[number];

/** A capsule on its way from one state to another: for who watches it, and soon of no interest. */
export const TRANSIENT_EVENT = "capsule.state.changed";
