// /v1/channels/:id/deliveries.

import { Elysia } from "elysia";
import { personAsActor } from "../audit/record.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import {
  ChannelParams,
  Delivery,
  DeliveryList,
  DeliveryParams,
  DeliveryQuery,
  toDelivery,
  toDeliveryList,
  toPageRequest,
} from "./schema.ts";
import type { Deliveries } from "./service.ts";

export interface DeliveryRoutesDeps extends AuthDeps {
  readonly deliveries: Deliveries;
}

const REFUSED = errors("invalid_request", "unauthorized", "forbidden", "not_found");

export function deliveryRoutes(deps: DeliveryRoutesDeps) {
  const { deliveries } = deps;
  return new Elysia({ prefix: "/v1/channels/:id/deliveries", tags: ["channels"] })
    .use(authPlugin(deps))
    .get(
      "",
      async ({ member, params, query }) => {
        const channel = { id: parseId("channel", params.id, "id"), teamId: member.teamId };
        return toDeliveryList(await deliveries.list(channel, toPageRequest(query)));
      },
      {
        member: true,
        params: ChannelParams,
        query: DeliveryQuery,
        response: { 200: DeliveryList, ...REFUSED },
        detail: {
          summary: "List what a channel was told, and what it waits for, the latest event first",
          description: "Kept as long as the events.",
        },
      },
    )
    .post(
      "/:delivery/redeliver",
      async ({ member, params, status }) => {
        const told = await deliveries.redeliver(
          { teamId: member.teamId, actor: personAsActor(member) },
          {
            id: parseId("delivery", params.delivery, "delivery"),
            channelId: parseId("channel", params.id, "id"),
          },
        );
        return status(202, toDelivery(told));
      },
      {
        member: true,
        params: DeliveryParams,
        response: { 202: Delivery, ...REFUSED, ...errors("conflict") },
        detail: { summary: "Tell a channel of an event again" },
      },
    );
}
