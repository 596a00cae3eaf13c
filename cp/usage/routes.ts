// The routes of what a team uses: HTTP only.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import {
  CapsuleStats,
  CapsuleUsage,
  STATS_RANGE_DEFAULT,
  StatsQuery,
  toCapsuleStats,
  toCapsuleUsage,
  toDates,
  toPageSize,
  toUsedCapsules,
  UsageQuery,
  UsedCapsules,
  UsedCapsulesQuery,
} from "./schema.ts";
import type { TeamUsage } from "./service.ts";

export interface UsageRouteDeps extends AuthDeps {
  readonly usage: TeamUsage;
}

export function usageRoutes(deps: UsageRouteDeps) {
  const { usage } = deps;
  return new Elysia({ prefix: "/v1", tags: ["capsules"] })
    .use(authPlugin(deps))
    .get(
      "/capsules/stats",
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
      "/capsules/usage",
      async ({ caller, query }) => toCapsuleUsage(await usage.usage(caller.teamId, toDates(query))),
      {
        team: "read",
        query: UsageQuery,
        response: { 200: CapsuleUsage, ...errors("invalid_request") },
        detail: {
          summary: "Tell what the team's capsules used by day, of at most 92 days",
          description:
            "Of the time in which capsules ran and rested, to the second, whatever control planes there were.",
        },
      },
    )
    .get(
      "/usage/capsules",
      async ({ caller, query }) => {
        const { cursor } = query;
        const after = cursor === undefined ? null : parseId("capsule", cursor, "cursor");
        const asked = { ...toDates(query), after, limit: toPageSize(query) };
        return toUsedCapsules(await usage.usageOfCapsules(caller.teamId, asked));
      },
      {
        team: "read",
        query: UsedCapsulesQuery,
        response: { 200: UsedCapsules, ...errors("invalid_request") },
        detail: {
          summary: "Tell what each capsule used, of at most 92 days",
          description: "Ended ones, too, as long as 92 days; by id.",
        },
      },
    );
}
