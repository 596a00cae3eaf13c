// The route of what a capsule uses: HTTP only.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import { CapsuleMetrics, METRIC_RANGE_DEFAULT, MetricQuery } from "./metric-schema.ts";
import { readMetrics } from "./metrics.ts";
import { CAPSULE_ERRORS } from "./route-errors.ts";
import { CapsuleParams } from "./schema.ts";
import type { Capsules } from "./service.ts";

/** Below the prefix of capsules. */
export function metricRoutes(deps: AuthDeps & { readonly capsules: Capsules }) {
  return new Elysia().use(authPlugin(deps)).get(
    "/:id/metrics",
    async ({ caller, params, query }) => {
      const ids = { id: parseId("capsule", params.id, "id"), teamId: caller.teamId };
      return await readMetrics(deps.capsules, ids, query.range ?? METRIC_RANGE_DEFAULT);
    },
    {
      team: true,
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
