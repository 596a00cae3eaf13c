// The signed-in person on the wire.

import { Type } from "@sinclair/typebox";

export const Me = Type.Object(
  {
    name: Type.String(),
    email: Type.String(),
    has_password: Type.Boolean(),
    providers: Type.Array(Type.String()),
  },
  { $id: "Me" },
);
