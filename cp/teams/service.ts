// Making teams, and who is in them.

import { type Id, newId } from "../../proto/ids.ts";
import { personAsActor, recordAudit } from "../audit/record.ts";
import type { Clock } from "../clock.ts";
import type { Db, Queryable } from "../db/client.ts";
import { databaseNow } from "../db/time.ts";
import { randomHex } from "../digest.ts";
import { AppError } from "../errors.ts";
import type { Mailer } from "../mail/mailer.ts";
import { teamCreatedMail } from "../mail/messages.ts";
import { teamEntry } from "./members.ts";
import {
  clearDefaultTeam,
  countOwnedTeams,
  findRole,
  findTeam,
  insertMember,
  insertTeam,
  listTeams,
  listTeamsToSignInto,
  lockUser,
} from "./queries.ts";
import { slugChangeAllowedAt } from "./slugs.ts";
import { OWNED_TEAMS_MAX, type TeamRole, type TeamRow } from "./team.ts";

export interface Membership {
  readonly team: TeamRow;
  readonly role: TeamRole;
}

/** When the slug of each may change; null: now. */
export type Slugged = Membership & { readonly slugChangeAllowedAt: Date | null };

interface TeamCreator {
  readonly id: Id<"user">;
  readonly name: string;
  readonly email: string;
}

export class Teams {
  readonly #db: Db;
  readonly #clock: Clock;
  readonly #mailer: Mailer;

  constructor(deps: { db: Db; clock: Clock; mailer: Mailer }) {
    this.#db = deps.db;
    this.#clock = deps.clock;
    this.#mailer = deps.mailer;
  }

  /** A new team with its creator as owner. Throws `conflict` past `OWNED_TEAMS_MAX`, and `account_deactivated`. */
  async create(name: string, creator: TeamCreator): Promise<Membership> {
    const team = await this.#db.transaction(async (tx) => {
      // A team of one who is gone meanwhile would be nobody's.
      if (!(await lockUser(tx, creator.id))) {
        throw new AppError("account_deactivated", "this account is not active");
      }
      if ((await countOwnedTeams(tx, creator.id)) >= OWNED_TEAMS_MAX) {
        throw new AppError("conflict", `an account can own at most ${OWNED_TEAMS_MAX} teams`);
      }
      const mail = teamCreatedMail({ to: creator.email, name: creator.name, teamName: name });
      await this.#mailer.send(mail, tx);
      const inserted = await this.#insert(tx, { name, ownerId: creator.id, isDefault: false });
      const change = { teamId: inserted.id, by: creator.id, actor: personAsActor(creator) };
      await recordAudit(tx, { ...teamEntry(change, "create"), status: "success" });
      return inserted;
    });
    return { team, role: "owner" };
  }

  /** The user's living teams, in the order they joined them. */
  async list(userId: Id<"user">): Promise<Slugged[]> {
    const memberships = await listTeams(this.#db, userId);
    const now = await databaseNow(this.#db);
    return memberships.map((one) => ({
      ...one,
      slugChangeAllowedAt: slugChangeAllowedAt(one.team.slugChangedAt, now),
    }));
  }

  /** One of the user's living teams; throws as `membership`. */
  async get(ids: { teamId: Id<"team">; userId: Id<"user"> }): Promise<Slugged> {
    const membership = await this.membership(ids);
    const now = await databaseNow(this.#db);
    const { slugChangedAt } = membership.team;
    return { ...membership, slugChangeAllowedAt: slugChangeAllowedAt(slugChangedAt, now) };
  }

  /** The living team; undefined when it is unknown or deleted. */
  async find(id: Id<"team">): Promise<TeamRow | undefined> {
    return await findTeam(this.#db, id);
  }

  /** The user's role in the team; undefined when they are no member. */
  async role(ids: { teamId: Id<"team">; userId: Id<"user"> }): Promise<TeamRole | undefined> {
    return await findRole(this.#db, ids);
  }

  /** Throws `not_found` for an unknown or deleted team, `forbidden` when the user isn't in it. */
  async membership(
    ids: { teamId: Id<"team">; userId: Id<"user"> },
    q: Queryable = this.#db,
  ): Promise<Membership> {
    const team = await findTeam(q, ids.teamId);
    if (team === undefined)
      throw new AppError("not_found", "team not found", { reason: "team_not_found" });
    const role = await findRole(q, ids);
    if (role === undefined) throw new AppError("forbidden", "you are not a member of this team");
    return { team, role };
  }

  /**
   * The team that a user signs in to: their default team, else the one joined first. One who has
   * none gets one of their own, once, however many sign-ins run. `q` is the caller's transaction.
   */
  async teamToSignInto(q: Queryable, user: { id: Id<"user">; name: string }): Promise<Membership> {
    await lockUser(q, user.id);
    const [first] = await listTeamsToSignInto(q, user.id);
    if (first !== undefined) return first;

    await clearDefaultTeam(q, user.id);
    const name = `${user.name}'s Team`;
    return {
      team: await this.#insert(q, { name, ownerId: user.id, isDefault: true }),
      role: "owner",
    };
  }

  async #insert(
    q: Queryable,
    options: { name: string; ownerId: Id<"user">; isDefault: boolean },
  ): Promise<TeamRow> {
    const createdAt = this.#clock.now();
    const { name, ownerId: userId, isDefault } = options;
    const slug = `${randomHex(3)}-${randomHex(3)}`;
    const team = await insertTeam(q, { id: newId("team"), name, slug, createdAt });
    await insertMember(q, { teamId: team.id, userId, role: "owner", isDefault, createdAt });
    return team;
  }
}
