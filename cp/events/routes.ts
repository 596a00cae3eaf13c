// GET /v1/events: HTTP only.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { EventList, EventQuery, toEventList, toPageRequest, toWhich } from "./schema.ts";
import type { Events } from "./service.ts";

export interface EventRoutesDeps extends AuthDeps {
  readonly events: Events;
}

export function eventRoutes(deps: EventRoutesDeps) {
  const { events } = deps;
  return new Elysia({ prefix: "/v1/events", tags: ["events"] }).use(authPlugin(deps)).get(
    "",
    async ({ caller, query }) => {
      const filter = { ...toWhich(query), teamId: caller.teamId };
      return toEventList(await events.list(filter, toPageRequest(query)), query);
    },
    {
      team: "read",
      query: EventQuery,
      response: { 200: EventList, ...errors("invalid_request", "unauthorized", "forbidden") },
      detail: {
        summary: "List what happened to the team's capsules and snapshots, oldest first",
        description:
          "Who goes on with `next_after`, now or later, meets each event once and misses none, whatever happens " +
          "meanwhile. Events are kept for 30 days unless the platform says otherwise; `after` an event that is not " +
          "kept any more is an error.",
      },
    },
  );
}
