// GET /v1/me.

import { Elysia } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { Me } from "./schema.ts";
import type { Users } from "./service.ts";

export interface UserRoutesDeps extends AuthDeps {
  readonly users: Users;
}

export function userRoutes(deps: UserRoutesDeps) {
  return new Elysia({ prefix: "/v1/me", tags: ["users"] }).use(authPlugin(deps)).get(
    "",
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
