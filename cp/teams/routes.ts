// /v1/teams: making teams, and one of them as a whole.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import type { Members } from "./members.ts";
import { ofOwnTeam } from "./own-team.ts";
import {
  CreateTeam,
  SetSlug,
  SlugAvailability,
  SlugQuery,
  Team,
  TeamInFull,
  TeamList,
  TeamParams,
  toMember,
  toTeam,
} from "./schema.ts";
import type { Teams } from "./service.ts";
import type { Slugs } from "./slugs.ts";

export interface TeamRoutesDeps extends AuthDeps {
  readonly teams: Teams;
  readonly members: Members;
  readonly slugs: Slugs;
}

export function teamRoutes(deps: TeamRoutesDeps) {
  return new Elysia({ prefix: "/v1/teams", tags: ["teams"] })
    .use(authPlugin(deps))
    .get(
      "",
      async ({ user }) => {
        const all = await deps.teams.list(user.id);
        return all.map((one) => toTeam(one.team, one.role, one.slugChangeAllowedAt));
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
        return status(201, toTeam(team, role, null));
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
    )
    .get(
      "/slug-check",
      async ({ query }) => ({ available: await deps.slugs.isAvailable(query.slug) }),
      {
        user: true,
        query: SlugQuery,
        response: {
          200: SlugAvailability,
          ...errors("invalid_request", "unauthorized", "account_deactivated"),
        },
        detail: { summary: "Tell whether a team could have that slug" },
      },
    )
    .get(
      "/:id",
      async ({ member, params }) => {
        const { teamId, by: userId } = ofOwnTeam(member, params.id);
        const { team, role, slugChangeAllowedAt } = await deps.teams.get({ teamId, userId });
        const members = await deps.members.list(teamId);
        return { team: toTeam(team, role, slugChangeAllowedAt), members: members.map(toMember) };
      },
      {
        member: true,
        params: TeamParams,
        response: { 200: TeamInFull, ...errors("invalid_request", "unauthorized", "forbidden") },
        detail: { summary: "Show your team and who is in it" },
      },
    )
    .patch(
      "/:id",
      async ({ member, params, body, status }) => {
        await deps.members.renameTeam(ofOwnTeam(member, params.id), body.name);
        return status(204, undefined);
      },
      {
        member: true,
        params: TeamParams,
        body: CreateTeam,
        response: { 204: Type.Void(), ...errors("invalid_request", "unauthorized", "forbidden") },
        detail: { summary: "Name your team anew" },
      },
    )
    .patch(
      "/:id/slug",
      async ({ member, params, body, status }) => {
        await deps.slugs.change(ofOwnTeam(member, params.id), body.slug);
        return status(204, undefined);
      },
      {
        member: true,
        params: TeamParams,
        body: SetSlug,
        response: {
          204: Type.Void(),
          ...errors("invalid_request", "unauthorized", "forbidden", "conflict"),
        },
        detail: {
          summary: "Give your team another slug, every 60 days",
          description: "The old one stays yours for 30 days; references by it lead nowhere.",
        },
      },
    );
}
