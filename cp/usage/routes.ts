// The routes of what a team uses: HTTP only.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import {
  CapsuleStats,
  CapsuleUsage,
  STATS_RANGE_DEFAULT,
  StatsQuery,
  toCapsuleStats,
  toCapsuleUsage,
  toDates,
  UsageQuery,
} from "./schema.ts";
import type { TeamUsage } from "./service.ts";

export interface UsageRouteDeps extends AuthDeps {
  readonly usage: TeamUsage;
}

export function usageRoutes(deps: UsageRouteDeps) {
  const { usage } = deps;
  return new Elysia({ prefix: "/v1/capsules", tags: ["capsules"] })
    .use(authPlugin(deps))
    .get(
      "/stats",
      async ({ caller, query }) =>
        toCapsuleStats(await usage.stats(caller.teamId, query.range ?? STATS_RANGE_DEFAULT)),
      {
        team: "read",
        query: StatsQuery,
        response: { 200: CapsuleStats, ...errors("invalid_request") },
        detail: { summary: "Tell what the team's capsules hold: now, at most, and over time" },
      },
    )
    .get(
      "/usage",
      async ({ caller, query }) => toCapsuleUsage(await usage.usage(caller.teamId, toDates(query))),
      {
        team: "read",
        query: UsageQuery,
        response: { 200: CapsuleUsage, ...errors("invalid_request") },
        detail: {
          summary: "Tell what the team's capsules used by day, of at most 92 days",
          description:
            "Counted every 10 s, by whichever control plane there is; what ran while there was none does not count.",
        },
      },
    );
}
