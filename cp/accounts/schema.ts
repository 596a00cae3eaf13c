// Signing up and signing in, on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { TEAM_ROLES } from "../db/tables.ts";
import { ID_LENGTH_MAX } from "../wire.ts";
import type { SignedIn } from "./account.ts";
import { PASSWORD_BYTES_MIN, PASSWORD_LENGTH_MAX } from "./password.ts";

/** RFC 5321: 64 before the `@`, 255 after it. */
const EMAIL_LENGTH_MAX = 320;
/** No control characters: names and addresses end up in mail headers and in the database. */
const ONE_LINE = "^[^\\u0000-\\u001f\\u007f]*$";

const email = Type.String({ minLength: 3, maxLength: EMAIL_LENGTH_MAX, pattern: ONE_LINE });
const message = Type.Object({ message: Type.String() }, { $id: "Message" });

const name = Type.String({ minLength: 1, maxLength: 200, pattern: ONE_LINE });
const newPassword = Type.String({
  maxLength: PASSWORD_LENGTH_MAX,
  description: `At least ${PASSWORD_BYTES_MIN} bytes.`,
});
const password = Type.String({ minLength: 1, maxLength: PASSWORD_LENGTH_MAX });
const token = Type.String({ minLength: 1, maxLength: 128 });

export const Signup = Type.Object({ email, password: newPassword, name });

export const SignupAccepted = message;

export const SignupInvited = Type.Object({ token, password: newPassword, name });

export const Activate = Type.Object({ token });

export const Login = Type.Object({ email, password });

export const UpdateMe = Type.Object({ name });

export const ChangePassword = Type.Object({
  current_password: Type.Optional(password),
  new_password: newPassword,
  confirm_password: Type.Optional(
    Type.String({
      maxLength: PASSWORD_LENGTH_MAX,
      description: "The new one again, of an account that has none yet.",
    }),
  ),
});

export const RequestReset = Type.Object({ email });

export const ConfirmReset = Type.Object({ token, new_password: newPassword });

export const SwitchTeam = Type.Object({
  team_id: Type.String({ minLength: 1, maxLength: ID_LENGTH_MAX }),
});

export const Session = Type.Object(
  {
    token: Type.String({
      description: "Bearer token, good for six hours, or as long as the session.",
    }),
    user_id: Type.String(),
    team_id: Type.String(),
    email: Type.String(),
    name: Type.String(),
    role: t.UnionEnum(TEAM_ROLES),
    is_admin: Type.Boolean({ description: "Of the platform." }),
  },
  { $id: "AuthResponse" },
);

export function toSession(signedIn: SignedIn): Static<typeof Session> {
  return {
    token: signedIn.token,
    user_id: encodeId("user", signedIn.userId),
    team_id: encodeId("team", signedIn.teamId),
    email: signedIn.email,
    name: signedIn.name,
    role: signedIn.role,
    is_admin: signedIn.isAdmin,
  };
}
