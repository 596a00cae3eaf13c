// GET and POST /v1/teams.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { CreateTeam, Team, TeamList, toTeam } from "./schema.ts";
import type { Teams } from "./service.ts";

export interface TeamRoutesDeps extends AuthDeps {
  readonly teams: Teams;
}

export function teamRoutes(deps: TeamRoutesDeps) {
  return new Elysia({ prefix: "/v1/teams", tags: ["teams"] })
    .use(authPlugin(deps))
    .get(
      "",
      async ({ user }) => {
        const memberships = await deps.teams.list(user.id);
        return memberships.map(({ team, role }) => toTeam(team, role));
      },
      {
        user: true,
        response: { 200: TeamList, ...errors("unauthorized", "account_deactivated") },
        detail: { summary: "List your teams" },
      },
    )
    .post(
      "",
      async ({ user, body, status }) => {
        const { team, role } = await deps.teams.create(body.name, user);
        return status(201, toTeam(team, role));
      },
      {
        user: true,
        body: CreateTeam,
        response: {
          201: Team,
          ...errors("invalid_request", "unauthorized", "account_deactivated", "conflict"),
        },
        detail: { summary: "Create a team" },
      },
    );
}
