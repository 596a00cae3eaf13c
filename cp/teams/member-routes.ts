// Who is in a team: HTTP only.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import type { Members } from "./members.ts";
import { ofOwnTeam } from "./own-team.ts";
import {
  AddMember,
  Member,
  MemberList,
  MemberParams,
  SetRole,
  TeamParams,
  TransferTeam,
  toMember,
} from "./schema.ts";

export interface MemberRoutesDeps extends AuthDeps {
  readonly members: Members;
}

const REFUSALS = ["invalid_request", "unauthorized", "forbidden"] as const;
const CHANGED = { 204: Type.Void(), ...errors(...REFUSALS, "not_found") };

export function memberRoutes(deps: MemberRoutesDeps) {
  const { members } = deps;
  return new Elysia({ prefix: "/v1/teams", tags: ["teams"] })
    .use(authPlugin(deps))
    .get(
      "/:id/members",
      async ({ member, params }) => {
        const { teamId } = ofOwnTeam(member, params.id);
        return (await members.list(teamId)).map(toMember);
      },
      {
        member: true,
        params: TeamParams,
        response: { 200: MemberList, ...errors(...REFUSALS) },
        detail: { summary: "List who is in your team" },
      },
    )
    .post(
      "/:id/members",
      async ({ member, params, body, status }) => {
        const added = await members.add(ofOwnTeam(member, params.id), body.email);
        return status(201, toMember(added));
      },
      {
        member: true,
        params: TeamParams,
        body: AddMember,
        response: {
          201: Member,
          ...errors(...REFUSALS, "not_found", "conflict", "rate_limited"),
        },
        detail: { summary: "Add somebody who has an account to your team" },
      },
    )
    .patch(
      "/:id/members/:uid",
      async ({ member, params, body, status }) => {
        const userId = parseId("user", params.uid, "uid");
        await members.setRole(ofOwnTeam(member, params.id), { userId, role: body.role });
        return status(204, undefined);
      },
      {
        member: true,
        params: MemberParams,
        body: SetRole,
        response: CHANGED,
        detail: { summary: "Make a member an admin, or an admin a member" },
      },
    )
    .delete(
      "/:id/members/:uid",
      async ({ member, params, status }) => {
        const userId = parseId("user", params.uid, "uid");
        await members.remove(ofOwnTeam(member, params.id), userId);
        return status(204, undefined);
      },
      {
        member: true,
        params: MemberParams,
        response: CHANGED,
        detail: { summary: "Take a member out of your team, with the keys that they made" },
      },
    )
    .post(
      "/:id/leave",
      async ({ member, params, status }) => {
        await members.leave(ofOwnTeam(member, params.id));
        return status(204, undefined);
      },
      {
        member: true,
        params: TeamParams,
        response: { 204: Type.Void(), ...errors(...REFUSALS) },
        detail: { summary: "Leave your team; the keys that you made are void" },
      },
    )
    .post(
      "/:id/transfer",
      async ({ member, params, body, status }) => {
        const userId = parseId("user", body.user_id, "user_id");
        await members.transfer(ofOwnTeam(member, params.id), userId);
        return status(204, undefined);
      },
      {
        member: true,
        params: TeamParams,
        body: TransferTeam,
        response: { ...CHANGED, ...errors("conflict") },
        detail: { summary: "Make another member the owner; you become an admin" },
      },
    );
}
