// What was told where, and telling it again.

import { encodeId, type Id } from "../../proto/ids.ts";
import { recordAudit } from "../audit/record.ts";
import type { ChannelChange, Channels } from "../channels/service.ts";
import type { Db } from "../db/client.ts";
import { AppError } from "../errors.ts";
import type { DeliveryRow, ToldDelivery } from "./delivery.ts";
import { findDelivery, listDeliveries, queueAgain } from "./queries.ts";

export interface DeliveriesDeps {
  readonly db: Db;
  readonly channels: Channels;
}

export interface DeliveryPage {
  readonly rows: ToldDelivery[];
  /** Whether there are earlier ones. */
  readonly hasMore: boolean;
}

export class Deliveries {
  readonly #deps: DeliveriesDeps;

  constructor(deps: DeliveriesDeps) {
    this.#deps = deps;
  }

  /**
   * The latest event first, before the given delivery. Throws `not_found`, and `invalid_request` for a delivery that is
   * not kept.
   */
  async list(
    channel: { id: Id<"channel">; teamId: Id<"team"> },
    page: {
      before: Id<"delivery"> | undefined;
      status: DeliveryRow["status"] | undefined;
      limit: number;
    },
  ): Promise<DeliveryPage> {
    const { db, channels } = this.#deps;
    const { id: channelId } = await channels.get(channel);
    const { before: id, status, limit } = page;
    const from = id === undefined ? undefined : await findDelivery(db, { id, channelId });
    if (id !== undefined && from === undefined) {
      throw new AppError("invalid_request", "before: is no delivery that is kept");
    }
    const before = from?.delivery.position;
    const rows = await listDeliveries(db, { channelId, status, before, limit: limit + 1 });
    return { rows: rows.slice(0, limit), hasMore: rows.length > limit };
  }

  /** Queues it anew, with all its attempts. Throws `not_found`, and `conflict` where it waits already. */
  async redeliver(
    change: ChannelChange,
    { id, channelId }: { id: Id<"delivery">; channelId: Id<"channel"> },
  ): Promise<ToldDelivery> {
    const { db, channels } = this.#deps;
    await channels.get({ id: channelId, teamId: change.teamId });
    return await db.transaction(async (tx) => {
      const isQueued = await queueAgain(tx, { id, channelId });
      const told = await findDelivery(tx, { id, channelId });
      if (told === undefined) {
        throw new AppError("not_found", "no such delivery of the channel", {
          reason: "delivery_not_found",
        });
      }
      if (!isQueued) throw new AppError("conflict", "the delivery is under way");
      await recordAudit(tx, {
        ...{ ...change, resource: { type: "channel", id: encodeId("channel", channelId) } },
        ...{ action: "redeliver", status: "info" },
        metadata: { delivery: encodeId("delivery", id) },
      });
      return told;
    });
  }
}
