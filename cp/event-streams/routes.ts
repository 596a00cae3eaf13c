// The route of a team's events: HTTP only.

import { Elysia, t } from "elysia";
import type { Id } from "../../proto/ids.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { describedErrors, errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
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

/** Of each route its own: Elysia writes into it who may ask. */
const detail = (summary: string) => ({
  summary,
  description:
    "Server-sent events: first `connected`, then one for each event, named by its kind, with one line of JSON; a " +
    "comment every 30 s. Each event has an id: who comes back with it in `Last-Event-ID` is told what came " +
    "after it, without gaps and none twice, or `reset` first where that is not kept any more. A client that " +
    "takes nothing for a minute is sent away with `stalled`, and may come back.",
  responses: {
    200: {
      description: "Events until either side ends.",
      content: { "text/event-stream": { schema: { type: "string" as const } } },
    },
    ...describedErrors("invalid_request", "rate_limited", "service_unavailable"),
  },
});

const STREAM = {
  200: t.Any({ description: "Events until either side ends." }),
  ...errors("invalid_request", "rate_limited", "service_unavailable"),
};

export function eventStreamRoutes(deps: EventStreamRouteDeps) {
  const { eventStreams } = deps;
  return new Elysia({ prefix: "/v1", tags: ["events"] })
    .use(authPlugin(deps))
    .get(
      "/events/stream",
      async ({ caller, request, server }) => {
        server?.timeout(request, 0);
        const events = await eventStreams.open({ caller, frames: EVENT_FRAMES, ...after(request) });
        return new Response(events, { headers: HEADERS });
      },
      {
        team: "read",
        response: STREAM,
        detail: detail("Tell what happens to the team's capsules and snapshots, as it happens"),
      },
    )
    .get(
      "/admin/events/stream",
      async ({ admin: administrator, request, server }) => {
        server?.timeout(request, 0);
        const asked = { administrator, frames: EVENT_FRAMES, ...after(request) };
        return new Response(await eventStreams.open(asked), { headers: HEADERS });
      },
      {
        admin: true,
        response: STREAM,
        detail: detail("Tell what happens in all teams, as it happens"),
      },
    );
}

/** Throws `invalid_request`. */
function after({ headers }: Request): { after?: Id<"event"> } {
  const last = headers.get("last-event-id");
  return last ? { after: parseId("event", last, "Last-Event-ID") } : {};
}
