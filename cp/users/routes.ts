// GET /v1/me, and looking for others.

import { Elysia } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { FoundUserList, Me, SearchUsers } from "./schema.ts";
import type { Users } from "./service.ts";

export interface UserRoutesDeps extends AuthDeps {
  readonly users: Users;
}

export function userRoutes(deps: UserRoutesDeps) {
  return new Elysia({ prefix: "/v1", tags: ["users"] })
    .use(authPlugin(deps))
    .get(
      "/users/search",
      async ({ user, query }) => {
        const found = await deps.users.search(user.id, query.email);
        return found.map(({ id, email }) => ({ user_id: encodeId("user", id), email }));
      },
      {
        user: true,
        query: SearchUsers,
        response: {
          200: FoundUserList,
          ...errors("invalid_request", "unauthorized", "account_deactivated", "rate_limited"),
        },
        detail: { summary: "Look for somebody you are in a team with, or whose address you know" },
      },
    )
    .get(
      "/me",
      async ({ user }) => {
        const { hasPassword, providers } = await deps.users.signInMethods(user.id);
        const { name, email, role, isAdmin } = user;
        return {
          user_id: encodeId("user", user.id),
          team_id: encodeId("team", user.teamId),
          ...(role === null ? {} : { role }),
          ...{ is_admin: isAdmin, name, email },
          ...{ has_password: hasPassword, providers: [...providers] },
        };
      },
      {
        user: true,
        response: { 200: Me, ...errors("unauthorized", "account_deactivated") },
        detail: { summary: "Show your account" },
      },
    );
}
