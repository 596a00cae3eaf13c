// /v1/admin/teams/{id}/limits: what one team may have. HTTP only.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import {
  AdministeredLimits,
  ChangeLimits,
  toAdministeredLimits,
  toLimitChanges,
} from "../limits/schema.ts";
import type { Limits } from "../limits/service.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import { IdParams } from "./schema.ts";

export interface TeamLimitRoutesDeps extends AuthDeps {
  readonly limits: Limits;
}

const RESPONSE = {
  200: AdministeredLimits,
  ...errors("invalid_request", "unauthorized", "forbidden", "not_found"),
};

export function teamLimitRoutes(deps: TeamLimitRoutesDeps) {
  const { limits } = deps;
  return new Elysia({ prefix: "/teams" })
    .use(authPlugin(deps))
    .get(
      "/:id/limits",
      async ({ params }) =>
        toAdministeredLimits(await limits.show(parseId("team", params.id, "id"))),
      {
        admin: true,
        params: IdParams,
        response: RESPONSE,
        detail: { summary: "Show what a team may have and has" },
      },
    )
    .patch(
      "/:id/limits",
      async ({ admin, params, body }) => {
        const id = parseId("team", params.id, "id");
        return toAdministeredLimits(await limits.change(admin, id, toLimitChanges(body)));
      },
      {
        admin: true,
        params: IdParams,
        body: ChangeLimits,
        response: RESPONSE,
        detail: {
          summary: "Give a team limits of its own",
          description: "What it has already stays, even if it is more.",
        },
      },
    );
}
