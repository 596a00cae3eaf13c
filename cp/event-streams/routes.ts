// The route of a team's events: HTTP only.

import { Elysia, t } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { describedErrors, errors } from "../openapi/error-schema.ts";
import { EVENT_FRAMES } from "./schema.ts";
import type { EventStreams } from "./service.ts";

export interface EventStreamRouteDeps extends AuthDeps {
  readonly eventStreams: EventStreams;
}

const HEADERS = {
  "content-type": "text/event-stream",
  "cache-control": "no-cache",
  // nginx would collect them.
  "x-accel-buffering": "no",
};

const DETAIL = {
  summary: "Tell what happens to the team's capsules and snapshots, as it happens",
  description:
    "Server-sent events: first `connected`, then one for each event, named by its kind, with one line of JSON; a " +
    "comment every 30 s. There is no past and no promise: who comes back looks at what is there, and a " +
    "client that falls behind loses events.",
  responses: {
    200: {
      description: "Events until either side ends.",
      content: { "text/event-stream": { schema: { type: "string" as const } } },
    },
    ...describedErrors("rate_limited", "service_unavailable"),
  },
};

export function eventStreamRoutes(deps: EventStreamRouteDeps) {
  const { eventStreams } = deps;
  return new Elysia({ prefix: "/v1/events", tags: ["events"] }).use(authPlugin(deps)).get(
    "/stream",
    async ({ caller, request, server }) => {
      server?.timeout(request, 0);
      const events = await eventStreams.open({ caller, frames: EVENT_FRAMES });
      return new Response(events, { headers: HEADERS });
    },
    {
      team: "read",
      response: {
        200: t.Any({ description: "Events until either side ends." }),
        ...errors("rate_limited", "service_unavailable"),
      },
      detail: DETAIL,
    },
  );
}
