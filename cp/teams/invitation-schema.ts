// Invitations on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { INVITED_ROLES } from "../db/tables.ts";
import { ID_LENGTH_MAX, timestamp } from "../wire.ts";
import type { InvitationRow } from "./team.ts";

// A union of literals: Elysia gives an absent UnionEnum its first value, which is more than anybody asked for.
const INVITED = [Type.Literal("admin"), Type.Literal("member")];

export const SendInvitation = Type.Object({
  email: Type.String({ minLength: 3, maxLength: 320 }),
  role: Type.Optional(Type.Union(INVITED, { description: "Missing: member." })),
});

export const AcceptInvitation = Type.Object({
  token: Type.String({ minLength: 1, maxLength: 128 }),
});

const id = Type.String({ maxLength: ID_LENGTH_MAX });
export const InvitationParams = Type.Object({ id, iid: id });

export const Invitation = Type.Object(
  {
    id: Type.String(),
    email: Type.String(),
    role: t.UnionEnum(INVITED_ROLES),
    invited_by: Type.String({ description: "Their mail address." }),
    created_at: Type.String({ format: "date-time" }),
    expires_at: Type.String({ format: "date-time" }),
  },
  { $id: "Invitation" },
);
export const InvitationList = Type.Array(Invitation);

export function toInvitation(row: InvitationRow): Static<typeof Invitation> {
  return {
    id: encodeId("invitation", row.id),
    email: row.email,
    role: row.role,
    invited_by: row.invitedBy,
    created_at: timestamp(row.createdAt),
    expires_at: timestamp(row.expiresAt),
  };
}
