// DELETE /v1/me and DELETE /v1/teams/{id}: HTTP only.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { clearSessionCookies } from "../auth/session-cookies.ts";
import { errors } from "../openapi/error-schema.ts";
import { ofOwnTeam } from "../teams/own-team.ts";
import { TeamParams } from "../teams/schema.ts";
import { DeleteMe } from "./schema.ts";
import type { Deletions } from "./service.ts";

export interface DeletionRoutesDeps extends AuthDeps {
  readonly deletions: Deletions;
}

export function deletionRoutes(deps: DeletionRoutesDeps) {
  const { deletions } = deps;
  return new Elysia({ prefix: "/v1" })
    .use(authPlugin(deps))
    .delete(
      "/me",
      async ({ user, body, request, set, status }) => {
        await deletions.deleteAccount(user, body.confirmation);
        set.headers["set-cookie"] = clearSessionCookies(request);
        return status(204, undefined);
      },
      {
        user: true,
        body: DeleteMe,
        response: {
          204: Type.Void(),
          ...errors("invalid_request", "unauthorized", "account_deactivated", "conflict"),
        },
        detail: {
          tags: ["users"],
          summary: "Delete your account, with the teams that are yours alone",
          description:
            "It ends all sessions and the keys that you made at once, and is forgotten after 15 days. Teams of yours " +
            "that others are in come first: 409 lists them in `details.owned_teams_with_members`.",
        },
      },
    )
    .delete(
      "/teams/:id",
      async ({ member, params, status }) => {
        await deletions.deleteTeam(ofOwnTeam(member, params.id));
        return status(204, undefined);
      },
      {
        member: true,
        params: TeamParams,
        response: { 204: Type.Void(), ...errors("invalid_request", "unauthorized", "forbidden") },
        detail: {
          tags: ["teams"],
          summary: "Delete your team with all that it owns",
          description:
            "Keys are void and members out of it at once. Its capsules, paused ones too, and its templates are " +
            "removed behind the answer, from hosts that are away when they are back. Nobody gets its slug.",
        },
      },
    );
}
