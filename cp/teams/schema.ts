// Teams on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { TEAM_ROLES } from "../db/tables.ts";
import { ID_LENGTH_MAX, timestamp } from "../wire.ts";
import type { MemberRow, TeamRole, TeamRow } from "./team.ts";

const TEAM_NAME_PATTERN = "^[A-Za-z0-9 _\\-@']{1,128}$";

export const CreateTeam = Type.Object({ name: Type.String({ pattern: TEAM_NAME_PATTERN }) });
export type CreateTeam = Static<typeof CreateTeam>;

export const Team = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    slug: Type.String(),
    is_byoc: Type.Boolean(),
    created_at: Type.String({ format: "date-time" }),
    slug_change_allowed_at: Type.Optional(
      Type.String({ format: "date-time", description: "Missing: now." }),
    ),
    role: t.UnionEnum(TEAM_ROLES),
  },
  { $id: "Team" },
);
export type Team = Static<typeof Team>;

export const Member = Type.Object(
  {
    user_id: Type.String(),
    name: Type.String(),
    email: Type.String(),
    role: t.UnionEnum(TEAM_ROLES),
    joined_at: Type.String({ format: "date-time" }),
  },
  { $id: "Member" },
);
export type Member = Static<typeof Member>;

export const MemberList = Type.Array(Member);
export const TeamInFull = Type.Object({ team: Team, members: MemberList });

const id = Type.String({ maxLength: ID_LENGTH_MAX });
export const TeamParams = Type.Object({ id });
export const MemberParams = Type.Object({ id, uid: id });
export const AddMember = Type.Object({
  email: Type.String({ minLength: 3, maxLength: 320 }),
});
// A union of literals: Elysia gives an absent UnionEnum its first value, and who says no role must not make an admin.
export const SetRole = Type.Object({
  role: Type.Union([Type.Literal("admin"), Type.Literal("member")]),
});
export const TransferTeam = Type.Object({ user_id: id });
const slug = Type.String({ maxLength: 100 });
export const SetSlug = Type.Object({ slug });
export const SlugQuery = Type.Object({ slug });
export const SlugAvailability = Type.Object({ available: Type.Boolean() });

export const TeamList = Type.Array(Team);

/** A team as one of its members sees it; `slugChangeAllowedAt` is null where that is now. */
export function toTeam(row: TeamRow, role: TeamRole, slugChangeAllowedAt: Date | null): Team {
  return {
    id: encodeId("team", row.id),
    name: row.name,
    slug: row.slug,
    is_byoc: row.isByoc,
    created_at: timestamp(row.createdAt),
    ...(slugChangeAllowedAt === null
      ? {}
      : { slug_change_allowed_at: timestamp(slugChangeAllowedAt) }),
    role,
  };
}

export function toMember(row: MemberRow): Member {
  return {
    user_id: encodeId("user", row.userId),
    name: row.name,
    email: row.email,
    role: row.role,
    joined_at: timestamp(row.joinedAt),
  };
}
