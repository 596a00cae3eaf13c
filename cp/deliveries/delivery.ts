// A delivery: one event on its way to one channel.

import type { Id } from "../../proto/ids.ts";
import type { ChannelRow } from "../channels/channel.ts";
import type { channelDeliveries } from "../db/tables.ts";
import type { EventRow } from "../events/payload.ts";

export type DeliveryRow = typeof channelDeliveries.$inferSelect;

export interface ClaimedDelivery {
  readonly delivery: DeliveryRow;
  readonly channel: ChannelRow;
  /** Null once it is not kept any more. */
  readonly event: EventRow | null;
}

/** What became of an attempt. */
export interface Settled {
  readonly id: Id<"delivery">;
  readonly channelId: Id<"channel">;
  readonly claim: string | null;
  readonly status: DeliveryRow["status"];
  readonly attempts: number;
  readonly response_status: number | null;
  readonly error: string;
  readonly in_sec: number;
}

/** A delivery as its team sees it. */
export interface ToldDelivery {
  readonly delivery: DeliveryRow;
  readonly event: Pick<EventRow, "eventId" | "type"> | null;
}
