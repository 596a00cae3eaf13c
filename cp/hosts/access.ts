// Who may see, make and manage a host. Shared hosts belong to the platform, BYOC hosts to a team.

import type { Id } from "../../proto/ids.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import { AppError } from "../errors.ts";
import type { Teams } from "../teams/service.ts";
import type { HostRow, NewHost } from "./host.ts";

export function canSee(host: HostRow, user: UserCaller): boolean {
  if (user.isAdmin) return true;
  return host.type === "byoc" && host.teamId === user.teamId && user.role !== null;
}

/** Those who see a BYOC host manage it when they own or administer its team. */
export function canManage(host: HostRow, user: UserCaller): boolean {
  return user.isAdmin || (canSee(host, user) && user.role !== "member");
}

/**
 * The team that the new host will belong to, null for none. Throws `forbidden`, and
 * `invalid_request` for a missing or unknown team.
 */
export async function authorizeCreate(
  teams: Teams,
  request: NewHost,
  user: UserCaller,
): Promise<Id<"team"> | null> {
  if (request.type === "regular" && !user.isAdmin) {
    throw new AppError("forbidden", "only platform administrators add shared hosts");
  }
  if (request.teamId === null) {
    if (request.type === "regular") return null;
    throw new AppError("invalid_request", "team_id: required for a byoc host");
  }

  const { teamId } = request;
  const team = await teams.find(teamId);
  if (team === undefined) throw new AppError("invalid_request", "team_id: no such team");
  const role = user.isAdmin ? "owner" : await teams.role({ teamId, userId: user.id });
  if (role !== "owner" && role !== "admin") {
    throw new AppError("forbidden", "only owners and administrators of a team add hosts to it");
  }
  if (!team.isByoc) throw new AppError("forbidden", "this team may not bring its own hosts");
  return teamId;
}
