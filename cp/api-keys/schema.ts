// API keys on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { KEY_SCOPES } from "../db/tables.ts";
import { ID_LENGTH_MAX, timestamp } from "../wire.ts";
import type { ApiKeyRow } from "./api-key.ts";

const scopes = Type.Array(t.UnionEnum(KEY_SCOPES), {
  minItems: 1,
  maxItems: KEY_SCOPES.length,
  uniqueItems: true,
  description: "What it may do with the team's resources; without them everything.",
});

export const CreateApiKey = Type.Object({
  name: Type.Optional(
    Type.String({
      maxLength: 128,
      pattern: "^[^\\u0000-\\u001f\\u007f]*$",
      description: "A label for people; empty means `Unnamed API Key`.",
    }),
  ),
  expires_at: Type.Optional(
    Type.String({ maxLength: 40, description: "When it ends (RFC 3339); without it never." }),
  ),
  scopes: Type.Optional(scopes),
});

export const ApiKeyParams = Type.Object({ id: Type.String({ maxLength: ID_LENGTH_MAX }) });

export const ApiKey = Type.Object(
  {
    id: Type.String(),
    team_id: Type.String(),
    name: Type.String(),
    key_prefix: Type.String({ description: "The first ten characters of the key." }),
    created_by: Type.Optional(Type.String()),
    creator_email: Type.Optional(Type.String()),
    created_at: Type.String({ format: "date-time" }),
    last_used: Type.Optional(Type.String({ format: "date-time" })),
    expires_at: Type.Optional(Type.String({ format: "date-time" })),
    scopes: Type.Optional(scopes),
    key: Type.Optional(Type.String({ description: "The key itself: only when it is created." })),
  },
  { $id: "APIKey" },
);
export type ApiKey = Static<typeof ApiKey>;

export const ApiKeyList = Type.Array(ApiKey);

/** A key as its team sees it; `key` is the secret, known only while it is being made. */
export function toApiKey(row: ApiKeyRow, creatorEmail: string | null, key?: string): ApiKey {
  return {
    id: encodeId("apiKey", row.id),
    team_id: encodeId("team", row.teamId),
    name: row.name,
    key_prefix: row.keyPrefix,
    ...(row.createdBy === null ? {} : { created_by: encodeId("user", row.createdBy) }),
    ...(creatorEmail === null ? {} : { creator_email: creatorEmail }),
    created_at: timestamp(row.createdAt),
    ...(row.lastUsed === null ? {} : { last_used: timestamp(row.lastUsed) }),
    ...(row.expiresAt === null ? {} : { expires_at: timestamp(row.expiresAt) }),
    ...(row.scopes === null ? {} : { scopes: row.scopes }),
    ...(key === undefined ? {} : { key }),
  };
}
