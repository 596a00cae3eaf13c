// Deletions on the wire.

import { Type } from "@sinclair/typebox";

export const DeleteMe = Type.Object({
  confirmation: Type.String({ maxLength: 320, description: "The address of your account." }),
});
