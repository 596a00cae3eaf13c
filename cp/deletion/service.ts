// Deleting accounts and teams. Each is one transaction, with which every right ends: requests and whatever is open
// look at the rows that it changes. What a team has on hosts is removed behind that (purge-teams.ts), and what is
// kept of a person when a time has passed in which they can be brought back (purge-accounts.ts).

import { encodeId, type Id } from "../../proto/ids.ts";
import { hasOtherAdministrator, lockAdministrators } from "../accounts/administrators.ts";
import { accountEntry, personAsActor, recordAudit } from "../audit/record.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import type { Db, Tx } from "../db/client.ts";
import { AppError } from "../errors.ts";
import type { Mailer } from "../mail/mailer.ts";
import { accountDeletedMail } from "../mail/messages.ts";
import { parseEmail } from "../mail-address.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import type { Sessions } from "../sessions/service.ts";
import { type TeamChange, teamEntry } from "../teams/members.ts";
import {
  lockActiveUser,
  lockOwnedTeams,
  lockTeam,
  markTeamDeleted,
  markUserDeleted,
  type OwnedTeam,
} from "./queries.ts";

/** How long a deleted account can be brought back. */
export const ACCOUNT_GRACE_DAYS = 15;

export interface DeletionsDeps {
  readonly db: Db;
  readonly sessions: Sessions;
  readonly mailer: Mailer;
  /** There are teams whose things are to be removed. */
  readonly wakePurge: () => void;
}

export class Deletions {
  readonly #deps: DeletionsDeps;

  constructor(deps: DeletionsDeps) {
    this.#deps = deps;
  }

  /** Deletes the team with all that it owns. Throws `forbidden` for anybody but its owner. */
  async deleteTeam(change: TeamChange): Promise<void> {
    await this.#deps.db.transaction(async (tx) => {
      const team = await lockTeam(tx, { teamId: change.teamId, userId: change.by });
      if (team?.role !== "owner") {
        throw new AppError("forbidden", "only the owner deletes the team");
      }
      await this.#delete(tx, change);
    });
    this.#deps.wakePurge();
  }

  /** An administrator deletes whatever team. False when there is no such living team. */
  async deleteAnyTeam(by: UserCaller, teamId: Id<"team">): Promise<boolean> {
    const isDeleted = await this.#deps.db.transaction(async (tx) => {
      const team = await lockTeam(tx, { teamId, userId: by.id });
      if (team === undefined) return false;
      await markTeamDeleted(tx, teamId);
      const change = { teamId, by: by.id, actor: personAsActor(by) };
      const entry = { ...teamEntry(change, "delete"), status: "warning" } as const;
      await recordAudit(tx, entry, { ...entry, teamId: PLATFORM_TEAM, scope: "admin" });
      return true;
    });
    if (isDeleted) this.#deps.wakePurge();
    return isDeleted;
  }

  /**
   * Deletes the account, and the teams that are its owner's alone. Throws `invalid_request` when that is not its
   * address, and `conflict` for who owns teams that others are in, or is the last administrator.
   */
  async deleteAccount(by: UserCaller, confirmation: string): Promise<void> {
    const { db, sessions, mailer, wakePurge } = this.#deps;
    if (!isSameAddress(confirmation, by.email)) {
      throw new AppError("invalid_request", "confirmation: must be the address of your account");
    }
    const { id } = by;
    await db.transaction(async (tx) => {
      await lockAdministrators(tx);
      // Teams come before accounts, as whoever changes who is in a team locks them; then those that came meanwhile.
      await lockOwnedTeams(tx, id);
      const user = await lockActiveUser(tx, id);
      if (user === undefined) throw new AppError("unauthorized", "the account is gone");
      if (user.isAdmin && !(await hasOtherAdministrator(tx, id))) {
        throw new AppError("conflict", "you are the last administrator: make another one first");
      }
      const owned = await lockOwnedTeams(tx, id);
      requireAlone(owned);
      const actor = personAsActor(by);
      for (const team of owned) await this.#delete(tx, { teamId: team.id, by: id, actor });
      for (const teamId of await markUserDeleted(tx, id)) {
        const resource = { type: "member", id: encodeId("user", id) };
        const left = { teamId, actor, resource, action: "leave" } as const;
        await recordAudit(tx, { ...left, scope: "admin", status: "info" });
      }
      await sessions.endAll(id, tx);
      await recordAudit(tx, { ...accountEntry(by, "delete"), status: "warning" });
      const { name, email: to } = user;
      await mailer.send(accountDeletedMail({ to, name, graceDays: ACCOUNT_GRACE_DAYS }), tx);
    });
    wakePurge();
  }

  async #delete(tx: Tx, change: TeamChange & { teamId: Id<"team"> }): Promise<void> {
    await markTeamDeleted(tx, change.teamId);
    await recordAudit(tx, { ...teamEntry(change, "delete"), status: "warning" });
  }
}

/** However it is written. */
function isSameAddress(text: string, email: string): boolean {
  try {
    return parseEmail(text) === email;
  } catch {
    return false;
  }
}

function requireAlone(owned: readonly OwnedTeam[]): void {
  const shared = owned.filter(({ members }) => members > 1);
  if (shared.length === 0) return;
  const message = "you own teams that others are in: give them away or delete them first";
  throw new AppError("conflict", message, {
    details: {
      owned_teams_with_members: shared.map(({ id, name }) => ({ id: encodeId("team", id), name })),
    },
  });
}
