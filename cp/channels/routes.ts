// /v1/channels.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { personAsActor } from "../audit/record.ts";
import type { MemberCaller } from "../auth/authenticator.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import {
  Channel,
  ChannelList,
  ChannelParams,
  CreateChannel,
  RotateConfig,
  TestChannel,
  Tested,
  toChannel,
  UpdateChannel,
} from "./schema.ts";
import type { Channels } from "./service.ts";

export interface ChannelRoutesDeps extends AuthDeps {
  readonly channels: Channels;
}

const REFUSED = errors("invalid_request", "unauthorized", "forbidden");
const REFUSED_OF_ONE = errors("invalid_request", "unauthorized", "forbidden", "not_found");

export function channelRoutes(deps: ChannelRoutesDeps) {
  const { channels } = deps;
  return new Elysia({ prefix: "/v1/channels", tags: ["channels"] })
    .use(authPlugin(deps))
    .post(
      "",
      async ({ member, body, status }) => {
        const { row, secret } = await channels.create(changeBy(member), body);
        return status(201, toChannel(row, secret));
      },
      {
        member: true,
        body: CreateChannel,
        response: { 201: Channel, ...REFUSED, ...errors("conflict") },
        detail: { summary: "Have what happens to your team's things told somewhere" },
      },
    )
    .get(
      "",
      async ({ member }) => (await channels.list(member.teamId)).map((row) => toChannel(row)),
      {
        member: true,
        response: { 200: ChannelList, ...errors("unauthorized", "forbidden") },
        detail: { summary: "List your team's channels" },
      },
    )
    .post(
      "/test",
      async ({ member, body }) => {
        await channels.test(member.teamId, body.provider, body.config);
        return { status: "ok" as const };
      },
      {
        member: true,
        body: TestChannel,
        response: { 200: Tested, ...REFUSED, ...errors("rate_limited") },
        detail: { summary: "Send a test to where a channel would be told" },
      },
    )
    .get(
      "/:id",
      async ({ member, params }) => toChannel(await channels.get(keyOf(member, params))),
      {
        member: true,
        params: ChannelParams,
        response: { 200: Channel, ...REFUSED_OF_ONE },
        detail: { summary: "Get a channel" },
      },
    )
    .patch(
      "/:id",
      async ({ member, params, body }) => {
        const { id } = keyOf(member, params);
        return toChannel(await channels.update(changeBy(member), id, body));
      },
      {
        member: true,
        params: ChannelParams,
        body: UpdateChannel,
        response: { 200: Channel, ...REFUSED_OF_ONE, ...errors("conflict") },
        detail: { summary: "Name a channel anew, and say what it is told" },
      },
    )
    .put(
      "/:id/config",
      async ({ member, params, body }) => {
        const { id } = keyOf(member, params);
        const { row, secret } = await channels.rotate(changeBy(member), id, body.config);
        return toChannel(row, secret);
      },
      {
        member: true,
        params: ChannelParams,
        body: RotateConfig,
        response: { 200: Channel, ...REFUSED_OF_ONE },
        detail: {
          summary: "Replace the config of a channel",
          description: "All of it: a webhook without a `secret` gets another one, told here once.",
        },
      },
    )
    .delete(
      "/:id",
      async ({ member, params, status }) => {
        const { id } = keyOf(member, params);
        await channels.remove(changeBy(member), id);
        return status(204, undefined);
      },
      {
        member: true,
        params: ChannelParams,
        response: { 204: Type.Void(), ...REFUSED },
        detail: { summary: "Delete a channel, with what waits for it" },
      },
    );
}

function changeBy(member: MemberCaller) {
  return { teamId: member.teamId, actor: personAsActor(member) };
}

function keyOf({ teamId }: MemberCaller, { id }: { id: string }) {
  return { teamId, id: parseId("channel", id, "id") };
}
