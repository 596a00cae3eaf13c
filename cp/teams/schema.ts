// Teams on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { TEAM_ROLES } from "../db/tables.ts";
import { timestamp } from "../wire.ts";
import type { TeamRole, TeamRow } from "./team.ts";

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
    role: t.UnionEnum(TEAM_ROLES),
  },
  { $id: "Team" },
);
export type Team = Static<typeof Team>;

export const TeamList = Type.Array(Team);

/** A team as one of its members sees it. */
export function toTeam(row: TeamRow, role: TeamRole): Team {
  return {
    id: encodeId("team", row.id),
    name: row.name,
    slug: row.slug,
    is_byoc: row.isByoc,
    created_at: timestamp(row.createdAt),
    role,
  };
}
