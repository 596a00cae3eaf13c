// Seeing and ending one's sessions.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { clearSessionCookies } from "../auth/session-cookies.ts";
import { errors } from "../openapi/error-schema.ts";
import { SessionList, SessionParams, toSession } from "./schema.ts";
import type { Sessions } from "./service.ts";

export interface SessionRoutesDeps extends AuthDeps {
  readonly sessions: Sessions;
}

const ENDED = {
  204: Type.Void(),
  ...errors("invalid_request", "unauthorized", "account_deactivated"),
};

export function sessionRoutes(deps: SessionRoutesDeps) {
  const { sessions } = deps;
  return new Elysia({ prefix: "/v1", tags: ["sessions"] })
    .use(authPlugin(deps))
    .post(
      "/auth/logout",
      async ({ user, request, set, status }) => {
        await sessions.endBy(user, user.grant.id);
        set.headers["set-cookie"] = clearSessionCookies(request);
        return status(204, undefined);
      },
      { user: true, response: ENDED, detail: { summary: "End this session" } },
    )
    .post(
      "/auth/logout-all",
      async ({ user, request, set, status }) => {
        await sessions.endAllBy(user);
        set.headers["set-cookie"] = clearSessionCookies(request);
        return status(204, undefined);
      },
      { user: true, response: ENDED, detail: { summary: "End all your sessions" } },
    )
    .get(
      "/me/sessions",
      async ({ user }) => {
        const rows = await sessions.list(user.id);
        return { sessions: rows.map((row) => toSession(row, user.grant.id)) };
      },
      {
        user: true,
        response: { 200: SessionList, ...errors("unauthorized", "account_deactivated") },
        detail: { summary: "List your sessions, the one used last first" },
      },
    )
    .delete(
      "/me/sessions/:id",
      async ({ user, params, status }) => {
        await sessions.endBy(user, params.id);
        return status(204, undefined);
      },
      {
        user: true,
        params: SessionParams,
        response: ENDED,
        detail: { summary: "End one of your sessions" },
      },
    );
}
