// What administrators of the platform see and change of everybody's accounts and teams.

import { encodeId, type Id } from "../../proto/ids.ts";
import { hasOtherAdministrator, lockAdministrators } from "../accounts/administrators.ts";
import { accountEntry, personAsActor, recordAudit } from "../audit/record.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import { stopCapsulesOfTeam } from "../capsules/destroy.ts";
import type { Db, Tx } from "../db/client.ts";
import type { Deletions } from "../deletion/service.ts";
import { AppError } from "../errors.ts";
import type { Operations } from "../operations/operations.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import type { Sessions } from "../sessions/service.ts";
import type { HostLoad, ListedTeam, ListedUser, Page } from "./listed.ts";
import {
  countTeams,
  countUsers,
  deleteKeysAndInvitationsOf,
  isAdministrator,
  lockTeam,
  lockUser,
  selectHostLoads,
  selectOwnedTeams,
  selectTeams,
  selectUsers,
  updateAdmin,
  updateByoc,
  updateStatus,
} from "./queries.ts";

export interface AdministrationDeps {
  readonly db: Db;
  readonly sessions: Sessions;
  readonly deletions: Deletions;
  readonly operations: Operations;
}

export class Administration {
  readonly #deps: AdministrationDeps;

  constructor(deps: AdministrationDeps) {
    this.#deps = deps;
  }

  async users(page: Page): Promise<{ rows: ListedUser[]; total: number }> {
    const { db } = this.#deps;
    return { rows: await selectUsers(db, page), total: await countUsers(db) };
  }

  async teams(page: Page): Promise<{ rows: ListedTeam[]; total: number }> {
    const { db } = this.#deps;
    return { rows: await selectTeams(db, page), total: await countTeams(db) };
  }

  /** What the capsules of each host hold of it; a host without any is left out. */
  async hostLoads(): Promise<ReadonlyMap<Id<"host">, HostLoad>> {
    const loads = await selectHostLoads(this.#deps.db);
    return new Map(loads.map(({ hostId, ...load }) => [hostId, load]));
  }

  /**
   * Lets the account sign in, or keeps it out: with that its sessions and the keys that it made end, and the
   * capsules of its teams are destroyed. One that was deleted comes back until it is forgotten, without its teams.
   * Throws `not_found`, and `invalid_request` for oneself and for an account that was never activated.
   */
  async setActive(by: UserCaller, id: Id<"user">, isActive: boolean): Promise<void> {
    await this.#deps.db.transaction(async (tx) => {
      await lockAdministrators(tx);
      await requireAdministrator(tx, by);
      const user = await lockUser(tx, id);
      if (user === undefined) throw userNotFound();
      if (id === by.id && !isActive) {
        throw new AppError("invalid_request", "active: you can't disable your own account");
      }
      if (user.status === "inactive") {
        throw new AppError("invalid_request", "active: the account waits for its owner's mail");
      }
      const isAllowed = user.status === "active";
      if (isAllowed === isActive) return;
      // Whoever disables somebody else stays an administrator, so there is always one.
      await updateStatus(tx, { id, status: isActive ? "active" : "disabled" });
      if (!isActive) await this.#keepOut(tx, id);
      const entry = accountEntry(by, isActive ? "activate" : "deactivate", id);
      await recordAudit(tx, { ...entry, status: "warning", metadata: { email: user.email } });
    });
  }

  /** Throws `not_found`, and `invalid_request` when nobody would administer the platform any more. */
  async setAdmin(by: UserCaller, id: Id<"user">, isAdmin: boolean): Promise<void> {
    await this.#deps.db.transaction(async (tx) => {
      await lockAdministrators(tx);
      await requireAdministrator(tx, by);
      const user = await lockUser(tx, id);
      if (user === undefined || user.status === "deleted") throw userNotFound();
      if (user.isAdmin === isAdmin) return;
      if (!isAdmin && !(await hasOtherAdministrator(tx, id))) throw lastOne();
      await updateAdmin(tx, { id, isAdmin });
      const entry = accountEntry(by, isAdmin ? "grant_admin" : "revoke_admin", id);
      await recordAudit(tx, { ...entry, status: "warning", metadata: { email: user.email } });
    });
  }

  /** Whether the team may bring its own hosts. Throws `not_found`. */
  async setByoc(by: UserCaller, id: Id<"team">, isByoc: boolean): Promise<void> {
    await this.#deps.db.transaction(async (tx) => {
      const team = await lockTeam(tx, id);
      if (team === undefined) throw teamNotFound();
      if (team.isByoc === isByoc) return;
      await updateByoc(tx, { id, isByoc });
      const resource = { type: "team", id: encodeId("team", id) };
      const entry = { teamId: PLATFORM_TEAM, actor: personAsActor(by), resource } as const;
      const metadata = { enabled: String(isByoc) };
      await recordAudit(tx, {
        ...entry,
        action: "set_byoc",
        scope: "admin",
        status: "info",
        metadata,
      });
    });
  }

  /** Deletes the team with all that it owns. Throws `not_found`. */
  async deleteTeam(by: UserCaller, id: Id<"team">): Promise<void> {
    if (id === PLATFORM_TEAM) throw teamNotFound();
    const isDeleted = await this.#deps.deletions.deleteAnyTeam(by, id);
    if (!isDeleted) throw teamNotFound();
  }

  async #keepOut(tx: Tx, id: Id<"user">): Promise<void> {
    const { sessions, operations } = this.#deps;
    await sessions.endAll(id, tx);
    await deleteKeysAndInvitationsOf(tx, id);
    for (const teamId of await selectOwnedTeams(tx, id)) {
      await stopCapsulesOfTeam(tx, { teamId, operations });
    }
  }
}

/** Of two who take the right from each other the second one has it no more. */
async function requireAdministrator(tx: Tx, { id }: UserCaller): Promise<void> {
  if (await isAdministrator(tx, id)) return;
  throw new AppError("forbidden", "platform administrators only");
}

function lastOne(): AppError {
  return new AppError("invalid_request", "this is the last administrator: make another one first");
}

function userNotFound(): AppError {
  return new AppError("not_found", "no such account", { reason: "user_not_found" });
}

function teamNotFound(): AppError {
  return new AppError("not_found", "team not found", { reason: "team_not_found" });
}
