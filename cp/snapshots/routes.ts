// Routes of snapshots: HTTP only.

import { Elysia, t } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { IdempotencyHeaders } from "../idempotency/schema.ts";
import { keyed } from "../idempotency/service.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import {
  CreateSnapshot,
  CreateSnapshotQuery,
  ListQuery,
  SnapshotParams,
  Template,
  TemplateList,
  toTemplate,
} from "./schema.ts";
import type { Snapshots } from "./service.ts";

export interface SnapshotRouteDeps extends AuthDeps {
  readonly snapshots: Snapshots;
}

export function snapshotRoutes(deps: SnapshotRouteDeps) {
  const { snapshots } = deps;
  return new Elysia({ prefix: "/v1/snapshots", tags: ["snapshots"] })
    .use(authPlugin(deps))
    .post(
      "",
      async ({ caller, body, headers, query, request, server, status }) => {
        // It may take longer than a connection may be idle.
        server?.timeout(request, 0);
        const capsuleId = parseId("capsule", body.sandbox_id, "sandbox_id");
        const asked = { name: body.name, isOverwriting: query.overwrite === "true" };
        const meant = { operation: "snapshot", id: capsuleId, ...asked };
        const key = keyed(caller, headers["idempotency-key"], meant);
        const made = await snapshots.create(caller, { capsuleId, ...asked }, key);
        return status(201, toTemplate(made));
      },
      {
        team: true,
        body: CreateSnapshot,
        query: CreateSnapshotQuery,
        headers: IdempotencyHeaders,
        response: {
          201: Template,
          ...errors(
            "unauthorized",
            "forbidden",
            "invalid_request",
            "not_found",
            "invalid_state",
            "too_large",
            "agent_error",
            "host_unavailable",
          ),
        },
        detail: {
          summary: "Make a template of a running or paused capsule",
          description:
            "The template holds its memory and its disk; the capsule stays as it is. 409 has the " +
            "code `name_reserved`, `template_name_taken` or `invalid_state`.",
        },
      },
    )
    .get(
      "",
      async ({ caller, query }) =>
        (await snapshots.list(caller.teamId, query.type)).map(toTemplate),
      {
        team: true,
        query: ListQuery,
        response: { 200: TemplateList, ...errors("unauthorized", "forbidden", "invalid_request") },
        detail: { summary: "List the team's and the platform's templates, newest first" },
      },
    )
    .delete(
      "/:name",
      async ({ caller, params, request, server, set }) => {
        server?.timeout(request, 0);
        await snapshots.delete(caller, params.name);
        set.status = 204;
      },
      {
        team: true,
        params: SnapshotParams,
        response: {
          204: t.Void(),
          ...errors("unauthorized", "forbidden", "invalid_request", "not_found"),
        },
        detail: {
          summary: "Delete a template of the team",
          description: "Capsules that were started from it go on.",
        },
      },
    );
}
