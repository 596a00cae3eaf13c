// Deliveries on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { DELIVERY_STATUSES } from "../db/tables.ts";
import { parseWholeNumber, wholeNumber } from "../whole-number.ts";
import { ID_LENGTH_MAX, parseId, timestamp } from "../wire.ts";
import type { DeliveryRow, ToldDelivery } from "./delivery.ts";

const LIMIT_DEFAULT = 50;
const LIMIT = { minimum: 1, maximum: 200 };

const id = Type.String({ maxLength: ID_LENGTH_MAX });
export const ChannelParams = Type.Object({ id });
export const DeliveryParams = Type.Object({ id, delivery: id });

export const DeliveryQuery = t.Object({
  before: t.Optional(
    t.String({
      maxLength: ID_LENGTH_MAX,
      description: "Of earlier events: `next_before` of the page before.",
    }),
  ),
  // Elysia puts the first value of a UnionEnum where there is none.
  status: t.Optional(
    Type.Unsafe<DeliveryRow["status"]>(
      Type.Union(DELIVERY_STATUSES.map((one) => Type.Literal(one))),
    ),
  ),
  limit: t.Optional(wholeNumber({ ...LIMIT, description: `Default ${LIMIT_DEFAULT}.` })),
});
type DeliveryQuery = Static<typeof DeliveryQuery>;

export const Delivery = Type.Object(
  {
    id: Type.String(),
    event_id: Type.Optional(Type.String({ description: "Missing once the event is not kept." })),
    event: Type.Optional(Type.String()),
    resource_id: Type.String(),
    status: t.UnionEnum(DELIVERY_STATUSES, { description: "`dead`: given up." }),
    attempts: Type.Integer({ description: "That counted: a 429 does not." }),
    response_status: Type.Optional(
      Type.Integer({ description: "What the receiver answered last, if it did." }),
    ),
    error: Type.Optional(Type.String({ description: "What was wrong with the last attempt." })),
    created_at: Type.String({ format: "date-time" }),
    next_attempt_at: Type.Optional(Type.String({ format: "date-time" })),
    finished_at: Type.Optional(Type.String({ format: "date-time" })),
  },
  { $id: "ChannelDelivery" },
);
type Delivery = Static<typeof Delivery>;

export const DeliveryList = Type.Object(
  {
    items: Type.Array(Delivery),
    next_before: Type.Optional(Type.String({ description: "Missing: there is no earlier one." })),
  },
  { $id: "ChannelDeliveryList" },
);

/** Throws `invalid_request`. */
export function toPageRequest({ before, status, limit }: DeliveryQuery) {
  return {
    before: before === undefined ? undefined : parseId("delivery", before, "before"),
    status,
    limit: limit === undefined ? LIMIT_DEFAULT : parseWholeNumber(limit, "limit", LIMIT),
  };
}

export function toDelivery({ delivery, event }: ToldDelivery): Delivery {
  const { status, responseStatus, error, finishedAt } = delivery;
  return {
    id: encodeId("delivery", delivery.id),
    ...(event === null ? {} : { event_id: encodeId("event", event.eventId), event: event.type }),
    resource_id: delivery.resource,
    ...{ status, attempts: delivery.attempts },
    ...(responseStatus === null ? {} : { response_status: responseStatus }),
    ...(error === "" ? {} : { error }),
    created_at: timestamp(delivery.createdAt),
    ...(status === "pending" ? { next_attempt_at: timestamp(delivery.nextAttemptAt) } : {}),
    ...(finishedAt === null ? {} : { finished_at: timestamp(finishedAt) }),
  };
}

export function toDeliveryList({
  rows,
  hasMore,
}: {
  rows: readonly ToldDelivery[];
  hasMore: boolean;
}) {
  const items = rows.map(toDelivery);
  const last = hasMore ? items.at(-1) : undefined;
  return { items, ...(last === undefined ? {} : { next_before: last.id }) };
}
