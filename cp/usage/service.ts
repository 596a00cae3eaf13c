// What a team's capsules hold and used: now, over time, and by day.

import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import { databaseNow } from "../db/time.ts";
import { AppError } from "../errors.ts";
import {
  compactSamples,
  insertSamples,
  selectDays,
  selectHolding,
  selectParts,
  selectPeaks,
} from "./queries.ts";
import type { Holding, Stats, StatsRange, Usage } from "./usage.ts";

const DAY_MS = 24 * 3600 * 1000;
const DAYS_DEFAULT = 30;
/** From the first to the last day of one answer. */
const DAYS_MAX = 92;

export class TeamUsage {
  readonly #db: Db;

  constructor({ db }: { db: Db }) {
    this.#db = db;
  }

  /** Counts what all teams hold, once in ten seconds, however often it is called; of how many it did now. */
  async sample(): Promise<number> {
    return await insertSamples(this.#db);
  }

  /** Keeps of counts older than a day the most of each hour, for a month; how many rows went. */
  async compact(): Promise<number> {
    return await compactSamples(this.#db);
  }

  /** What the team holds now, its most of 30 days, and the course of the range. */
  async stats(teamId: Id<"team">, range: StatsRange): Promise<Stats> {
    const [current, sampled, series] = await Promise.all([
      selectHolding(this.#db, teamId),
      selectPeaks(this.#db, teamId),
      selectParts(this.#db, teamId, range),
    ]);
    // What is now may not have been sampled yet.
    return { range, current, peaks: most(current, sampled), series };
  }

  /**
   * What the team used on each day from `from` to `to`, dates of UTC; by default the last 30 days up to today.
   * Throws `invalid_request` for dates in the wrong order or more than 92 days apart.
   */
  async usage(teamId: Id<"team">, dates: { from?: string; to?: string }): Promise<Usage> {
    const to = dates.to ?? dateOf((await databaseNow(this.#db)).getTime());
    const from = dates.from ?? dateOf(Date.parse(to) - DAYS_DEFAULT * DAY_MS);
    const days = (Date.parse(to) - Date.parse(from)) / DAY_MS;
    if (days < 0) throw new AppError("invalid_request", "from: is later than to");
    if (days > DAYS_MAX) {
      throw new AppError("invalid_request", `from: is more than ${DAYS_MAX} days before to`);
    }
    return { from, to, days: await selectDays(this.#db, { teamId, from, to }) };
  }
}

function dateOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

function most(a: Holding, b: Holding): Holding {
  return {
    runningCount: Math.max(a.runningCount, b.runningCount),
    vcpus: Math.max(a.vcpus, b.vcpus),
    memoryMb: Math.max(a.memoryMb, b.memoryMb),
  };
}
