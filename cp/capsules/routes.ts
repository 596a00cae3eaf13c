// Routes of capsules: HTTP only.

import { Elysia, t } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { isCompat, namedFor } from "../compat.ts";
import { keyed } from "../idempotency/service.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import { ACCEPTED, acceptedCapsule, type HeldDeps, heldCapsule, heldEnd } from "./held-routes.ts";
import { pauseResumeRoutes } from "./pause-resume-routes.ts";
import { AUTH_ERRORS, CAPSULE_ERRORS, RUNNING_ERRORS } from "./route-errors.ts";
import {
  Capsule,
  CapsuleList,
  CapsuleParams,
  CreateCapsule,
  HeldHeaders,
  KeyedHeldHeaders,
  ListQuery,
  toCapsule,
  toCapsuleInFull,
  toLabels,
  toNewCapsule,
} from "./schema.ts";

export interface CapsuleRouteDeps extends AuthDeps, HeldDeps {}

export function capsuleRoutes(deps: CapsuleRouteDeps) {
  const { capsules } = deps;
  return new Elysia({ prefix: "/capsules", tags: ["capsules"] })
    .use(authPlugin(deps))
    .post(
      "",
      async ({ caller, body, headers, request, server, set, status }) => {
        // A start may take longer than a connection may be idle.
        server?.timeout(request, 0);
        const key = keyed(caller, headers["idempotency-key"], body);
        const { id, done } = await capsules.create(caller, toNewCapsule(body), key);
        const work = { id, done, verb: "create" } as const;
        const { isDone, capsule } = await heldCapsule(deps, { caller, request, set }, work);
        return isDone ? status(201, capsule) : status(202, capsule);
      },
      {
        team: "write",
        body: CreateCapsule,
        headers: KeyedHeldHeaders,
        response: {
          201: Capsule,
          202: Capsule,
          ...errors(
            ...CAPSULE_ERRORS,
            "concurrent_sandbox_limit",
            "conflict",
            "too_large",
            "agent_error",
            "no_hosts_available",
            "not_implemented",
          ),
        },
        detail: {
          summary: "Create a capsule and wait until it runs",
          description: `${ACCEPTED} A create that fails then leaves the capsule as \`error\`.`,
        },
      },
    )
    .get(
      "",
      async ({ caller, query, request }) => {
        const listed = await capsules.list(caller.teamId, toLabels(query));
        const named = listed.map((capsule) => namedFor(request, capsule));
        // To the first clients what is being destroyed has ended.
        return named.filter(({ status }) => status !== "stopped").map((row) => toCapsule(row));
      },
      {
        team: "read",
        query: ListQuery,
        response: { 200: CapsuleList, ...errors(...AUTH_ERRORS, "invalid_request") },
        detail: { summary: "List capsules, newest first, without stopped and failed ones" },
      },
    )
    .get(
      "/:id",
      async ({ caller, params, request }) => {
        const id = parseId("capsule", params.id, "id");
        const capsule = await capsules.get({ id, teamId: caller.teamId });
        const trafficToken = capsules.trafficToken(caller, capsule);
        return toCapsuleInFull(namedFor(request, capsule), trafficToken);
      },
      {
        team: "read",
        params: CapsuleParams,
        response: { 200: Capsule, ...errors(...CAPSULE_ERRORS) },
        detail: { summary: "Get a capsule in any state" },
      },
    )
    .delete(
      "/:id",
      async ({ caller, params, request, server, set, status }) => {
        server?.timeout(request, 0);
        const id = parseId("capsule", params.id, "id");
        const { done } = await capsules.destroy(caller, id);
        const call = { caller, request, set };
        const end = await heldEnd(deps, call, { id, done, verb: "destroy" });
        // It is promised, which is all that the first clients can be told.
        if (end?.result === true || isCompat(request)) return status(204, undefined);
        return status(202, await acceptedCapsule(deps, call, id));
      },
      {
        team: "write",
        params: CapsuleParams,
        headers: HeldHeaders,
        response: { 202: Capsule, 204: t.Void(), ...errors(...CAPSULE_ERRORS) },
        detail: {
          summary: "Destroy a capsule in whatever state it is",
          description: `${ACCEPTED} So is one whose host does not answer: it is destroyed when it does.`,
        },
      },
    )
    .post(
      "/:id/ping",
      async ({ caller, params, set }) => {
        await capsules.ping({ id: parseId("capsule", params.id, "id"), teamId: caller.teamId });
        set.status = 204;
      },
      {
        team: "write",
        params: CapsuleParams,
        response: { 204: t.Void(), ...errors(...RUNNING_ERRORS) },
        detail: { summary: "Reset the capsule's inactivity timer" },
      },
    )
    .use(pauseResumeRoutes(deps));
}
