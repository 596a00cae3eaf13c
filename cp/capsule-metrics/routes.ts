// The route of what a capsule uses: HTTP only.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { CAPSULE_ERRORS } from "../capsules/route-errors.ts";
import { CapsuleParams } from "../capsules/schema.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import { CapsuleMetrics, METRIC_RANGE_DEFAULT, MetricQuery, toCapsuleMetrics } from "./schema.ts";
import type { CapsuleMetricsService } from "./service.ts";

export interface CapsuleMetricRouteDeps extends AuthDeps {
  readonly capsuleMetrics: CapsuleMetricsService;
}

export function capsuleMetricRoutes(deps: CapsuleMetricRouteDeps) {
  return new Elysia({ prefix: "/capsules", tags: ["capsules"] }).use(authPlugin(deps)).get(
    "/:id/metrics",
    async ({ caller, params, query }) => {
      const ids = { id: parseId("capsule", params.id, "id"), teamId: caller.teamId };
      const range = query.range ?? METRIC_RANGE_DEFAULT;
      return toCapsuleMetrics(ids.id, range, await deps.capsuleMetrics.read(ids, range));
    },
    {
      team: "read",
      params: CapsuleParams,
      query: MetricQuery,
      response: {
        200: CapsuleMetrics,
        ...errors(...CAPSULE_ERRORS, "agent_error", "host_unavailable"),
      },
      detail: { summary: "Tell what a capsule that runs or rests used: processors, memory, disk" },
    },
  );
}
