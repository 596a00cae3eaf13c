// The signed-in person on the wire.

import { Type } from "@sinclair/typebox";
import { t } from "elysia";
import { TEAM_ROLES } from "../db/tables.ts";

export const SearchUsers = Type.Object({
  email: Type.String({
    maxLength: 320,
    description: "The beginning of an address, of three characters or more, with the @.",
  }),
});

export const FoundUserList = Type.Array(
  Type.Object({ user_id: Type.String(), email: Type.String() }, { $id: "FoundUser" }),
);

export const Me = Type.Object(
  {
    user_id: Type.String(),
    team_id: Type.String({ description: "Of the session." }),
    role: Type.Optional(
      t.UnionEnum(TEAM_ROLES, { description: "Missing: you are not in that team any more." }),
    ),
    is_admin: Type.Boolean({ description: "Of the platform." }),
    name: Type.String(),
    email: Type.String(),
    has_password: Type.Boolean(),
    providers: Type.Array(Type.String()),
  },
  { $id: "Me" },
);
