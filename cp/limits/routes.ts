// GET /v1/limits: what the caller's team may have. HTTP only.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { TeamLimits, toTeamLimits } from "./schema.ts";
import type { Limits } from "./service.ts";

export interface LimitRoutesDeps extends AuthDeps {
  readonly limits: Limits;
}

export function limitRoutes(deps: LimitRoutesDeps) {
  const { limits } = deps;
  return new Elysia({ prefix: "/v1" })
    .use(authPlugin(deps))
    .get("/limits", async ({ caller }) => toTeamLimits(await limits.show(caller.teamId)), {
      team: "read",
      response: { 200: TeamLimits, ...errors("unauthorized", "forbidden") },
      detail: {
        summary: "Show what the team may have, and what it has of it",
        description:
          "What would pass a limit is 402 with `limit`, `used` and `asked`; too many requests are 429.",
        tags: ["teams"],
      },
    });
}
