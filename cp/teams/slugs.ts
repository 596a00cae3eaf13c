// The names by which teams are referred to, as in `<slug>/<template>`. Who gives one up keeps it for a month, so
// that what refers to it leads to nobody else.

import { recordAudit } from "../audit/record.ts";
import type { Db } from "../db/client.ts";
import { msSince } from "../db/time.ts";
import { AppError } from "../errors.ts";
import { type TeamChange, teamEntry } from "./members.ts";
import { findRole, findTeamLocked, isSlugTaken, lockSlugs, updateSlug } from "./queries.ts";

const SLUG = /^[a-z0-9]+(?:-[a-z0-9]+)*$/;
const LENGTH_MIN = 3;
const LENGTH_MAX = 40;
const OURS: ReadonlySet<string> = new Set(["platform", "wrenn", "0"]);
const RESERVED_SEC = 30 * 86_400;
/** Between two changes. */
const SLUG_COOLDOWN_SEC = 60 * 86_400;

export class Slugs {
  readonly #db: Db;

  constructor(deps: { db: Db }) {
    this.#db = deps.db;
  }

  /** Whether any team could have it. */
  async isAvailable(text: string): Promise<boolean> {
    const slug = normalised(text);
    if (problemOf(slug) !== null) return false;
    return !(await isSlugTaken(this.#db, { slug, by: null }));
  }

  /**
   * Gives the team the slug; the one that it has is no change. Throws `invalid_request`, `forbidden` for plain
   * members, and `conflict` for one that is taken or too soon after the last.
   */
  async change(change: TeamChange, text: string): Promise<void> {
    const { teamId, by } = change;
    const slug = normalised(text);
    const problem = problemOf(slug);
    if (problem !== null) throw new AppError("invalid_request", `slug: ${problem}`);
    await this.#db.transaction(async (tx) => {
      const team = await findTeamLocked(tx, teamId);
      const role = await findRole(tx, { teamId, userId: by });
      if (team === undefined || role === undefined || role === "member") {
        throw new AppError("forbidden", "only the owner and admins of the team do that");
      }
      if (team.slug === slug) return;
      const { slugChangedAt } = team;
      const ageMs = slugChangedAt === null ? null : await msSince(tx, slugChangedAt);
      if (ageMs !== null && ageMs < SLUG_COOLDOWN_SEC * 1000) {
        const again = new Date((slugChangedAt?.getTime() ?? 0) + SLUG_COOLDOWN_SEC * 1000);
        throw new AppError("conflict", `the slug may change again on ${again.toISOString()}`);
      }
      await lockSlugs(tx);
      if (await isSlugTaken(tx, { slug, by: teamId })) throw taken();
      await updateSlug(tx, { team, slug, reservedSec: RESERVED_SEC });
      await recordAudit(tx, {
        ...teamEntry(change, "slug_change"),
        metadata: { old_slug: team.slug, new_slug: slug },
      });
    });
  }
}

/** When the team's slug may change, if that is not yet. */
export function slugChangeAllowedAt(changedAt: Date | null, now: Date): Date | null {
  if (changedAt === null) return null;
  const allowedAt = new Date(changedAt.getTime() + SLUG_COOLDOWN_SEC * 1000);
  return allowedAt > now ? allowedAt : null;
}

function normalised(text: string): string {
  return text.trim().toLowerCase();
}

function problemOf(slug: string): string | null {
  if (OURS.has(slug)) return "is reserved";
  const isLong = slug.length >= LENGTH_MIN && slug.length <= LENGTH_MAX;
  if (isLong && SLUG.test(slug)) return null;
  return `must have ${LENGTH_MIN} to ${LENGTH_MAX} letters, digits and single hyphens between them`;
}

function taken(): AppError {
  return new AppError("conflict", "another team has this slug, or had it until lately", {
    details: { field: "slug" },
  });
}
