// /v1/api-keys.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { personAsActor } from "../audit/record.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId, parseInstant } from "../wire.ts";
import { ApiKey, ApiKeyList, ApiKeyParams, CreateApiKey, toApiKey } from "./schema.ts";
import type { ApiKeys } from "./service.ts";

export interface ApiKeyRoutesDeps extends AuthDeps {
  readonly apiKeys: ApiKeys;
}

export function apiKeyRoutes(deps: ApiKeyRoutesDeps) {
  const { apiKeys } = deps;
  return new Elysia({ prefix: "/v1/api-keys", tags: ["api-keys"] })
    .use(authPlugin(deps))
    .post(
      "",
      async ({ member, body, status }) => {
        const { teamId, id: createdBy, email } = member;
        const { name = "", expires_at: end, scopes = null } = body;
        const expiresAt = end === undefined ? null : parseInstant(end, "expires_at");
        const actor = personAsActor(member);
        const key = { teamId, createdBy, actor, name, expiresAt, scopes };
        const { row, secret } = await apiKeys.create(key);
        return status(201, toApiKey(row, email, secret));
      },
      {
        member: true,
        body: CreateApiKey,
        response: {
          201: ApiKey,
          ...errors("invalid_request", "unauthorized", "forbidden", "conflict"),
        },
        detail: { summary: "Create an API key for your team" },
      },
    )
    .get(
      "",
      async ({ member }) => {
        const keys = await apiKeys.list(member.teamId);
        return keys.map(({ key, creatorEmail }) => toApiKey(key, creatorEmail));
      },
      {
        member: true,
        response: { 200: ApiKeyList, ...errors("unauthorized", "forbidden") },
        detail: { summary: "List the API keys of your team" },
      },
    )
    .delete(
      "/:id",
      async ({ member, params, status }) => {
        const id = parseId("apiKey", params.id, "id");
        await apiKeys.remove({ id, teamId: member.teamId }, member);
        return status(204, undefined);
      },
      {
        member: true,
        params: ApiKeyParams,
        response: { 204: Type.Void(), ...errors("invalid_request", "unauthorized", "forbidden") },
        detail: { summary: "Delete an API key" },
      },
    );
}
