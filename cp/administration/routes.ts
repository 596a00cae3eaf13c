// /v1/admin: accounts, teams and the audit log of the platform. HTTP only.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { AuditLogs, AuditQuery, toAuditLogs, toPageRequest, toWhich } from "../audit/schema.ts";
import type { Audit } from "../audit/service.ts";
import { authPlugin } from "../auth/plugin.ts";
import { AppError } from "../errors.ts";
import { errors } from "../openapi/error-schema.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { parseId } from "../wire.ts";
import { type TeamLimitRoutesDeps, teamLimitRoutes } from "./limit-routes.ts";
import { anyHostRoutes, anyTemplateRoutes, type ResourceRoutesDeps } from "./resource-routes.ts";
import {
  IdParams,
  PageQuery,
  SetActive,
  SetAdmin,
  SetByoc,
  TeamPage,
  toAnyTeam,
  toAnyUser,
  toPage,
  toPages,
  UserPage,
} from "./schema.ts";
export interface AdministrationRoutesDeps extends TeamLimitRoutesDeps, ResourceRoutesDeps {
  readonly audit: Audit;
}

const REFUSALS = ["invalid_request", "unauthorized", "forbidden"] as const;
const CHANGED = { 204: Type.Void(), ...errors(...REFUSALS, "not_found") };

export function administrationRoutes(deps: AdministrationRoutesDeps) {
  return new Elysia({ prefix: "/v1/admin", tags: ["administration"] })
    .use(authPlugin(deps))
    .get(
      "/audit-logs",
      async ({ query, request }) => {
        const scopes = ["team", "admin"] as const;
        const question = { teamId: PLATFORM_TEAM, scopes, ...toWhich(request.url) };
        const page = await deps.audit.list(question, toPageRequest(query));
        return toAuditLogs(page, { isManager: true });
      },
      {
        admin: true,
        query: AuditQuery,
        response: { 200: AuditLogs, ...errors(...REFUSALS) },
        detail: { summary: "List who changed what of accounts, teams and shared hosts" },
      },
    )
    .use(userRoutes(deps))
    .use(teamRoutes(deps))
    .use(teamLimitRoutes(deps))
    .use(anyHostRoutes(deps))
    .use(anyTemplateRoutes(deps));
}

function userRoutes(deps: AdministrationRoutesDeps) {
  const { administration } = deps;
  return new Elysia({ prefix: "/users" })
    .use(authPlugin(deps))
    .get(
      "",
      async ({ query }) => {
        const page = toPage(query);
        const { rows, total } = await administration.users(page);
        return { users: rows.map(toAnyUser), ...toPages(page, total) };
      },
      {
        admin: true,
        query: PageQuery,
        response: { 200: UserPage, ...errors(...REFUSALS) },
        detail: { summary: "List all accounts, oldest first" },
      },
    )
    .put(
      "/:id/active",
      async ({ admin, params, body, status }) => {
        await administration.setActive(admin, parseId("user", params.id, "id"), body.active);
        return status(204, undefined);
      },
      {
        admin: true,
        params: IdParams,
        body: SetActive,
        response: CHANGED,
        detail: {
          summary: "Disable an account, or let it sign in again",
          description:
            "Disabling ends its sessions and the keys that it made, and destroys the capsules of its teams. A " +
            "deleted account comes back so for 15 days, without its teams.",
        },
      },
    )
    .put(
      "/:id/admin",
      async ({ admin, params, body, status }) => {
        await administration.setAdmin(admin, parseId("user", params.id, "id"), body.admin);
        return status(204, undefined);
      },
      {
        admin: true,
        params: IdParams,
        body: SetAdmin,
        response: CHANGED,
        detail: { summary: "Make somebody an administrator of the platform, or no more" },
      },
    );
}

function teamRoutes(deps: AdministrationRoutesDeps) {
  const { administration } = deps;
  return new Elysia({ prefix: "/teams" })
    .use(authPlugin(deps))
    .get(
      "",
      async ({ query }) => {
        const page = toPage(query);
        const { rows, total } = await administration.teams(page);
        return { teams: rows.map(toAnyTeam), ...toPages(page, total) };
      },
      {
        admin: true,
        query: PageQuery,
        response: { 200: TeamPage, ...errors(...REFUSALS) },
        detail: { summary: "List all teams, deleted ones last" },
      },
    )
    .put(
      "/:id/byoc",
      async ({ admin, params, body, status }) => {
        const isByoc = body.enabled ?? body.byoc;
        if (isByoc === undefined) throw new AppError("invalid_request", "enabled: is missing");
        await administration.setByoc(admin, parseId("team", params.id, "id"), isByoc);
        return status(204, undefined);
      },
      {
        admin: true,
        params: IdParams,
        body: SetByoc,
        response: CHANGED,
        detail: { summary: "Let a team bring its own hosts, or no more" },
      },
    )
    .delete(
      "/:id",
      async ({ admin, params, status }) => {
        await administration.deleteTeam(admin, parseId("team", params.id, "id"));
        return status(204, undefined);
      },
      {
        admin: true,
        params: IdParams,
        response: CHANGED,
        detail: { summary: "Delete a team with all that it owns" },
      },
    );
}
