// What teams may have and have, as they and the platform's administrators see it.

import { encodeId, type Id } from "../../proto/ids.ts";
import { personAsActor, recordAudit } from "../audit/record.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import type { Db, Queryable } from "../db/client.ts";
import { AppError } from "../errors.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { TEAM_LIMITS, type TeamLimits } from "../team-limits.ts";
import {
  type LimitChanges,
  type LimitsAndUse,
  type OwnLimits,
  WIRE_NAMES,
} from "./limits-and-use.ts";
import { effectiveLimits } from "./placing.ts";
import {
  lockOwnLimits,
  selectCapsuleUse,
  selectOwnLimits,
  selectSnapshotUse,
  updateOwnLimits,
} from "./queries.ts";

export class Limits {
  readonly #db: Db;
  readonly #defaults: TeamLimits;

  constructor(deps: { db: Db; teamLimits: TeamLimits }) {
    this.#db = deps.db;
    this.#defaults = deps.teamLimits;
  }

  /** Throws `not_found` for an unknown or deleted team. */
  async show(teamId: Id<"team">): Promise<LimitsAndUse> {
    const own = await selectOwnLimits(this.#db, teamId);
    if (own === undefined) throw teamNotFound();
    return await this.#withUse(this.#db, teamId, own);
  }

  /**
   * Gives the team limits of its own. What it has already of something stays, if it is more; it gets no more of
   * it. Throws `not_found` for an unknown or deleted team.
   */
  async change(by: UserCaller, teamId: Id<"team">, changes: LimitChanges): Promise<LimitsAndUse> {
    return await this.#db.transaction(async (tx) => {
      const before = await lockOwnLimits(tx, teamId);
      if (before === undefined) throw teamNotFound();
      const all = Object.entries({ ...before, ...changes });
      const own: OwnLimits = Object.fromEntries(all.filter(([, max]) => max !== null));
      await updateOwnLimits(tx, teamId, own);
      await recordAudit(tx, {
        ...{ teamId: PLATFORM_TEAM, actor: personAsActor(by) },
        resource: { type: "team", id: encodeId("team", teamId) },
        ...{ action: "set_limits", scope: "admin", status: "info", metadata: named(changes) },
      });
      return await this.#withUse(tx, teamId, own);
    });
  }

  async #withUse(q: Queryable, teamId: Id<"team">, own: OwnLimits): Promise<LimitsAndUse> {
    const limits = effectiveLimits(teamId, { own, defaults: this.#defaults });
    const used = await selectCapsuleUse(q, teamId);
    return { limits, own, used: { ...used, ...(await selectSnapshotUse(q, teamId)) } };
  }
}

/** As clients say them. */
function named(changes: LimitChanges): Record<string, string> {
  const changed = TEAM_LIMITS.filter((limit) => changes[limit] !== undefined);
  return Object.fromEntries(changed.map((limit) => [WIRE_NAMES[limit], `${changes[limit]}`]));
}

function teamNotFound(): AppError {
  return new AppError("not_found", "team not found", { reason: "team_not_found" });
}
