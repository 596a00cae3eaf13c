// Inviting people to a team, and accepting: HTTP only.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { clientAddress } from "../client-address.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import {
  AcceptInvitation,
  Invitation,
  InvitationList,
  InvitationParams,
  SendInvitation,
  toInvitation,
} from "./invitation-schema.ts";
import type { Invitations } from "./invitations.ts";
import { ofOwnTeam } from "./own-team.ts";
import { Team, TeamParams, toTeam } from "./schema.ts";
import type { Teams } from "./service.ts";

export interface InvitationRoutesDeps extends AuthDeps {
  readonly invitations: Invitations;
  readonly teams: Teams;
}

const REFUSALS = ["invalid_request", "unauthorized", "forbidden"] as const;

export function invitationRoutes(deps: InvitationRoutesDeps) {
  const { invitations, teams } = deps;
  return new Elysia({ prefix: "/v1", tags: ["teams"] })
    .use(authPlugin(deps))
    .post(
      "/teams/:id/invitations",
      async ({ member, params, body, status }) => {
        const { email, role = "member" } = body;
        const change = ofOwnTeam(member, params.id);
        const sent = await invitations.send(change, { email, role, inviter: member });
        return status(201, toInvitation(sent));
      },
      {
        member: true,
        params: TeamParams,
        body: SendInvitation,
        response: { 201: Invitation, ...errors(...REFUSALS, "conflict", "rate_limited") },
        detail: { summary: "Invite somebody to your team by mail, with an account or without" },
      },
    )
    .get(
      "/teams/:id/invitations",
      async ({ member, params }) =>
        (await invitations.list(ofOwnTeam(member, params.id))).map(toInvitation),
      {
        member: true,
        params: TeamParams,
        response: { 200: InvitationList, ...errors(...REFUSALS) },
        detail: { summary: "List the invitations to your team that wait, the newest first" },
      },
    )
    .delete(
      "/teams/:id/invitations/:iid",
      async ({ member, params, status }) => {
        const id = parseId("invitation", params.iid, "iid");
        await invitations.revoke(ofOwnTeam(member, params.id), id);
        return status(204, undefined);
      },
      {
        member: true,
        params: InvitationParams,
        response: { 204: Type.Void(), ...errors(...REFUSALS) },
        detail: { summary: "Revoke an invitation" },
      },
    )
    .post(
      "/invitations/accept",
      async ({ user, body, request, server }) => {
        const address = clientAddress(request, server);
        const { team, role } = await invitations.accept(body.token, { user, address });
        const ids = { teamId: team.id, userId: user.id };
        return toTeam(team, role, (await teams.get(ids)).slugChangeAllowedAt);
      },
      {
        user: true,
        body: AcceptInvitation,
        response: {
          200: Team,
          ...errors(...REFUSALS, "invalid_token", "conflict", "rate_limited"),
        },
        detail: { summary: "Join the team that you were invited to; then switch to it" },
      },
    );
}
