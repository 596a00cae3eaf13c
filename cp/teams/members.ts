// Who is in a team, and as what. Each change holds the team's row, and looks at the role of whoever makes it
// once it has it: of two changes at once the second one sees the first.

import { encodeId, type Id } from "../../proto/ids.ts";
import type { Actor } from "../audit/entry.ts";
import { recordAudit } from "../audit/record.ts";
import type { Clock } from "../clock.ts";
import type { Db, Tx } from "../db/client.ts";
import { AppError } from "../errors.ts";
import type { Mailer } from "../mail/mailer.ts";
import { addedToTeamMail } from "../mail/messages.ts";
import { parseEmail } from "../mail-address.ts";
import { MEMBERS_PER_USER, type RateLimiter } from "../rate-limiter.ts";
import { deleteInvitationsBy } from "./invitation-queries.ts";
import {
  countOwnedTeams,
  deleteMember,
  findActiveUser,
  findMember,
  findRole,
  findTeamLocked,
  insertMember,
  listMembers,
  lockUser,
  updateRole,
  updateTeamName,
} from "./queries.ts";
import { type MemberRow, OWNED_TEAMS_MAX, type TeamRole, type TeamRow } from "./team.ts";

/** The list has no pages, so it needs an end. */
export const MEMBERS_MAX = 1000;

/** Who does it, to which team. */
export interface TeamChange {
  readonly teamId: Id<"team">;
  readonly by: Id<"user">;
  readonly actor: Actor;
}

export class Members {
  readonly #db: Db;
  readonly #clock: Clock;
  readonly #mailer: Mailer;
  readonly #rateLimiter: RateLimiter;

  constructor(deps: { db: Db; clock: Clock; mailer: Mailer; rateLimiter: RateLimiter }) {
    this.#db = deps.db;
    this.#clock = deps.clock;
    this.#mailer = deps.mailer;
    this.#rateLimiter = deps.rateLimiter;
  }

  /** As they joined. */
  async list(teamId: Id<"team">): Promise<MemberRow[]> {
    return await listMembers(this.#db, teamId);
  }

  /** Names the team anew. Throws `forbidden` for plain members. */
  async renameTeam(change: TeamChange, name: string): Promise<void> {
    await this.#manage(change, async (tx, team) => {
      await updateTeamName(tx, { id: change.teamId, name });
      await recordAudit(tx, {
        ...teamEntry(change, "rename"),
        metadata: { old_name: team.name, new_name: name },
      });
    });
  }

  /**
   * Adds the active account with that address as a plain member, and mails its owner. Throws `forbidden`,
   * `not_found`, `conflict` when the team is full, and `invalid_request` for one who is in it.
   */
  async add(change: TeamChange, email: string): Promise<MemberRow> {
    const address = parseEmail(email);
    await this.#rateLimiter.attempt(MEMBERS_PER_USER, change.by);
    const { teamId } = change;
    return await this.#manage(change, async (tx, team) => {
      const user = await findActiveUser(tx, address);
      if (user === undefined) {
        throw new AppError("not_found", "no active account has this address", {
          reason: "user_not_found",
        });
      }
      const members = await listMembers(tx, teamId);
      if (members.some(({ userId }) => userId === user.id)) {
        throw new AppError("invalid_request", "email: is a member of the team already");
      }
      if (members.length >= MEMBERS_MAX) {
        throw new AppError("conflict", `a team has at most ${MEMBERS_MAX} members`);
      }
      const joinedAt = this.#clock.now();
      const member = { teamId, userId: user.id, role: "member", isDefault: false } as const;
      await insertMember(tx, { ...member, createdAt: joinedAt });
      await recordAudit(tx, {
        ...memberEntry(change, user.id, "add"),
        ...{ status: "success", metadata: { email: user.email, role: "member" } },
      });
      const { name } = user;
      await this.#mailer.send(addedToTeamMail({ to: address, name, teamName: team.name }), tx);
      const { role, userId } = member;
      return { userId, name, email: address, status: "active", role, joinedAt };
    });
  }

  /** Throws `forbidden`, also about the owner, and `not_found` for one who is not in the team. */
  async setRole(
    change: TeamChange,
    { userId, role }: { userId: Id<"user">; role: "admin" | "member" },
  ): Promise<void> {
    await this.#manage(change, async (tx) => {
      await this.#requireOther(tx, { teamId: change.teamId, userId });
      await updateRole(tx, { teamId: change.teamId, userId, role });
      if (role === "member") await deleteInvitationsBy(tx, { teamId: change.teamId, userId });
      await recordAudit(tx, {
        ...memberEntry(change, userId, "role_update"),
        metadata: { new_role: role },
      });
    });
  }

  /** Takes a member out, with the keys that they made. Throws as `setRole`. */
  async remove(change: TeamChange, userId: Id<"user">): Promise<void> {
    await this.#manage(change, async (tx) => {
      const ids = { teamId: change.teamId, userId };
      await this.#requireOther(tx, ids);
      await deleteMember(tx, ids);
      await recordAudit(tx, { ...memberEntry(change, userId, "remove"), status: "warning" });
    });
  }

  /** The same for oneself. Throws `forbidden` for the owner. */
  async leave(change: TeamChange): Promise<void> {
    const { teamId, by: userId } = change;
    await this.#change(change, async (tx, _team, role) => {
      if (role === "owner") {
        throw new AppError("forbidden", "the owner can't leave: give the team to somebody first");
      }
      await deleteMember(tx, { teamId, userId });
      await recordAudit(tx, memberEntry(change, userId, "leave"));
    });
  }

  /**
   * Makes a member the owner, and the owner an admin. Throws `forbidden` for anybody but the owner, and `conflict`
   * when the member owns as many teams as they may.
   */
  async transfer(change: TeamChange, userId: Id<"user">): Promise<void> {
    const { teamId, by } = change;
    await this.#change(change, async (tx, _team, role) => {
      if (role !== "owner") throw new AppError("forbidden", "only the owner gives the team away");
      // An account that is being deleted must not get the team after its owner was looked for.
      await lockUser(tx, userId);
      const heir = await findMember(tx, { teamId, userId });
      // A team whose owner can't sign in would be nobody's.
      if (heir?.status !== "active") throw noMember();
      if (userId === by) return;
      if ((await countOwnedTeams(tx, userId)) >= OWNED_TEAMS_MAX) {
        throw new AppError("conflict", `an account can own at most ${OWNED_TEAMS_MAX} teams`);
      }
      // There is one owner at any time, as an index says.
      await updateRole(tx, { teamId, userId: by, role: "admin" });
      await updateRole(tx, { teamId, userId, role: "owner" });
      await recordAudit(tx, { ...memberEntry(change, userId, "transfer"), status: "warning" });
    });
  }

  async #requireOther(tx: Tx, ids: { teamId: Id<"team">; userId: Id<"user"> }): Promise<void> {
    const role = await findRole(tx, ids);
    if (role === undefined) throw noMember();
    if (role === "owner") throw new AppError("forbidden", "the owner stays the owner: transfer it");
  }

  async #manage<T>(change: TeamChange, work: (tx: Tx, team: TeamRow) => Promise<T>): Promise<T> {
    return await this.#change(change, async (tx, team, role) => {
      if (role === "member") {
        throw new AppError("forbidden", "only the owner and admins of the team do that");
      }
      return await work(tx, team);
    });
  }

  async #change<T>(
    { teamId, by }: TeamChange,
    work: (tx: Tx, team: TeamRow, role: TeamRole) => Promise<T>,
  ): Promise<T> {
    return await this.#db.transaction(async (tx) => {
      const team = await findTeamLocked(tx, teamId);
      const role = team && (await findRole(tx, { teamId, userId: by }));
      if (team === undefined || role === undefined) {
        throw new AppError("forbidden", "you are not a member of this team: switch team first");
      }
      return await work(tx, team, role);
    });
  }
}

function noMember(): AppError {
  return new AppError("not_found", "no such member of the team", { reason: "user_not_found" });
}

/** What somebody did to the team as a whole. */
export function teamEntry({ teamId, actor }: TeamChange, action: string) {
  const resource = { type: "team", id: encodeId("team", teamId) };
  return { teamId, actor, resource, action, status: "info" } as const;
}

function memberEntry({ teamId, actor }: TeamChange, userId: Id<"user">, action: string) {
  const resource = { type: "member", id: encodeId("user", userId) };
  return { teamId, actor, resource, action, scope: "admin", status: "info" } as const;
}
