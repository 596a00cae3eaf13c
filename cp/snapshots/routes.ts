// Routes of snapshots: HTTP only.

import { Elysia, t } from "elysia";
import type { GrantedCaller } from "../auth/authenticator.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import {
  ACCEPTED,
  acceptedCapsule,
  type HeldCall,
  type HeldDeps,
  heldEnd,
} from "../capsules/held-routes.ts";
import { Capsule, CapsuleParams, KeyedHeldHeaders } from "../capsules/schema.ts";
import { isCompat } from "../compat.ts";
import { keyed } from "../idempotency/service.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import {
  ChangeVisibility,
  CreatePlatformTemplate,
  CreateSnapshot,
  CreateSnapshotQuery,
  isPaged,
  ListQuery,
  RenameTemplate,
  SnapshotParams,
  Template,
  TemplateList,
  TemplatePage,
  toPageRequest,
  toTemplate,
  toTemplatePage,
} from "./schema.ts";
import type { SnapshotOf, Snapshots } from "./service.ts";

/** Of what changes a template. */
const CHANGE_ERRORS = ["unauthorized", "forbidden", "invalid_request", "not_found"] as const;

/** Of what makes one. */
const CREATE_ERRORS = [
  ...["unauthorized", "snapshot_limit", "forbidden", "invalid_request", "not_found"],
  ...["invalid_state", "too_large", "agent_error", "host_unavailable"],
] as const;

export interface SnapshotRouteDeps extends AuthDeps, HeldDeps {
  readonly snapshots: Snapshots;
}

export function snapshotRoutes(deps: SnapshotRouteDeps) {
  const { snapshots } = deps;
  return new Elysia({ prefix: "/v1/snapshots", tags: ["snapshots"] })
    .use(authPlugin(deps))
    .post(
      "",
      async ({ caller, body, headers, query, request, server, set, status }) => {
        server?.timeout(request, 0);
        const capsuleId = parseId("capsule", body.sandbox_id, "sandbox_id");
        const asked = { name: body.name, isOverwriting: query.overwrite === "true", capsuleId };
        const call = { caller, request, set, key: headers["idempotency-key"] };
        const { isDone, answer } = await create(deps, call, asked);
        return isDone ? status(201, answer) : status(202, answer);
      },
      {
        team: "write",
        body: CreateSnapshot,
        query: CreateSnapshotQuery,
        headers: KeyedHeldHeaders,
        response: {
          201: Template,
          202: t.Union([Capsule, Template]),
          ...errors(...CREATE_ERRORS),
        },
        detail: {
          summary: "Make a template of a running or paused capsule",
          description:
            `${ACCEPTED} ` +
            "The template holds its memory and its disk; the capsule stays as it is. Below `/compat/0.1` 202 has " +
            "the template as it will be, of size 0. 409 has the " +
            "code `name_reserved`, `template_name_taken` or `invalid_state`.",
        },
      },
    )
    .get(
      "",
      async ({ caller, query }) => {
        const { teamId: viewer } = caller;
        if (isPaged(query)) {
          const found = await snapshots.page({ ...toPageRequest(query), teamId: viewer });
          return toTemplatePage(found, { query, viewer });
        }
        const listed = await snapshots.list(viewer, query.type);
        return listed.map((template) => toTemplate(template, viewer));
      },
      {
        team: "read",
        query: ListQuery,
        response: {
          200: t.Union([TemplateList, TemplatePage]),
          ...errors("unauthorized", "forbidden", "invalid_request"),
        },
        detail: {
          summary: "List templates",
          description:
            "With `q`, `page` or `per_page` a page of those that the team may start capsules from: " +
            "its own first, then the platform's, then what other teams made public, each newest " +
            "first. Without any of them an array of the first two kinds, newest first.",
        },
      },
    )
    .patch(
      "/:name",
      async ({ caller, params, body, set }) => {
        await snapshots.rename(caller, { name: params.name, newName: body.new_name });
        set.status = 204;
      },
      {
        team: "write",
        params: SnapshotParams,
        body: RenameTemplate,
        response: { 204: t.Void(), ...errors(...CHANGE_ERRORS, "conflict") },
        detail: {
          summary: "Rename a template of the team",
          description:
            "It is not public any more. Capsules that were started from it go on. 409 has the code " +
            "`name_reserved` or `template_name_taken`.",
        },
      },
    )
    .patch(
      "/:name/visibility",
      async ({ caller, params, body, set }) => {
        await snapshots.show(caller, { name: params.name, isPublic: body.public });
        set.status = 204;
      },
      {
        team: "admin",
        params: SnapshotParams,
        body: ChangeVisibility,
        response: { 204: t.Void(), ...errors(...CHANGE_ERRORS) },
        detail: {
          summary: "Let other teams start capsules from a template of the team, or no more",
          description:
            "Whoever starts one gets all that the template holds: the memory and the disk of the " +
            "capsule that it was made of, with every secret in them. Capsules that others have " +
            "started go on when it is not public any more.",
        },
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
        team: "write",
        params: SnapshotParams,
        response: { 204: t.Void(), ...errors(...CHANGE_ERRORS) },
        detail: {
          summary: "Delete a template of the team",
          description: "Capsules that were started from it go on.",
        },
      },
    );
}

/** Makes templates of the platform's capsules: every team has them. */
export function platformSnapshotRoutes(deps: SnapshotRouteDeps) {
  return new Elysia({ prefix: "/capsules", tags: ["snapshots"] }).use(authPlugin(deps)).post(
    "/:id/snapshot",
    async ({ caller, params, body, headers, request, server, set, status }) => {
      server?.timeout(request, 0);
      const capsuleId = parseId("capsule", params.id, "id");
      const asked = { name: body?.name, isOverwriting: false, capsuleId };
      const call = { caller, request, set, key: headers["idempotency-key"] };
      const { isDone, answer } = await create(deps, call, asked);
      return isDone ? status(201, answer) : status(202, answer);
    },
    {
      team: "write",
      params: CapsuleParams,
      body: t.Optional(t.Nullable(CreatePlatformTemplate)),
      headers: KeyedHeldHeaders,
      response: {
        201: Template,
        202: t.Union([Capsule, Template]),
        ...errors(...CREATE_ERRORS),
      },
      detail: {
        summary: "Make a template for all teams of a running or paused capsule",
        description: `${ACCEPTED} The capsule stays as it is. No team may have a template of that name.`,
      },
    },
  );
}

interface CreateCall extends HeldCall {
  readonly caller: GrantedCaller;
  readonly key: string | undefined;
}

/** The template, or while it is being made the capsule that it is made of. */
async function create(
  deps: SnapshotRouteDeps,
  { key, ...call }: CreateCall,
  { capsuleId, ...asked }: SnapshotOf,
) {
  const { snapshots } = deps;
  const { caller, request } = call;
  const meant = { operation: "snapshot", id: capsuleId, ...asked };
  const keyedRequest = keyed(caller, key, meant);
  const { ids, done } = await snapshots.create(caller, { capsuleId, ...asked }, keyedRequest);
  const end = await heldEnd(deps, call, { id: capsuleId, done, verb: "snapshot" });
  const made = end?.result ?? (isCompat(request) ? await snapshots.soFar(ids) : null);
  if (made === null) {
    return { isDone: false, answer: await acceptedCapsule(deps, call, capsuleId) } as const;
  }
  const answer = toTemplate(await snapshots.listed(made), caller.teamId);
  return end === null ? ({ isDone: false, answer } as const) : ({ isDone: true, answer } as const);
}
