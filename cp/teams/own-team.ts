// The team that a path names, which must be that of the caller's session.

import { personAsActor } from "../audit/record.ts";
import type { MemberCaller } from "../auth/authenticator.ts";
import { AppError } from "../errors.ts";
import { parseId } from "../wire.ts";
import type { TeamChange } from "./members.ts";

/** Throws `invalid_request` or `forbidden`. */
export function ofOwnTeam(member: MemberCaller, text: string): TeamChange {
  const { teamId, id: by } = member;
  const actor = personAsActor(member);
  if (parseId("team", text, "id") === teamId) return { teamId, by, actor };
  throw new AppError("forbidden", "this is not the team of your session: switch team first");
}
