// Sessions on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { timestamp } from "../wire.ts";
import type { SessionRow } from "./session.ts";

export const SessionParams = Type.Object({
  id: Type.String({ pattern: "^[0-9a-f]{64}$" }),
});

const OneSession = Type.Object(
  {
    id: Type.String(),
    user_agent: Type.String(),
    ip_address: Type.String(),
    created_at: Type.String({ format: "date-time" }),
    last_seen_at: Type.String({ format: "date-time", description: "To the minute." }),
    expires_at: Type.String({ format: "date-time" }),
    current: Type.Boolean({ description: "Whether this request came by it." }),
  },
  { $id: "Session" },
);

export const SessionList = Type.Object({ sessions: Type.Array(OneSession) });

/** A session as the one whose it is sees it; `currentId` is of the request's own. */
export function toSession(row: SessionRow, currentId: string): Static<typeof OneSession> {
  return {
    id: row.id,
    user_agent: row.userAgent,
    ip_address: row.ipAddress,
    created_at: timestamp(row.createdAt),
    last_seen_at: timestamp(row.lastSeenAt),
    expires_at: timestamp(row.expiresAt),
    current: row.id === currentId,
  };
}
