// What a team's capsules hold and used: now, over time, by day, and each of them.

import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import { databaseNow } from "../db/time.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import {
  compactSamples,
  countUse,
  deleteOldUsage,
  insertSamples,
  lockStepped,
  moveMarks,
  readClockMs,
  selectCapsuleUsage,
  selectDays,
  selectHolding,
  selectParts,
  selectPeaks,
  sumDays,
} from "./queries.ts";
import type { CapsuleUsagePage, Holding, Stats, StatsRange, Usage } from "./usage.ts";

const DAY_MS = 24 * 3600 * 1000;
const DAYS_DEFAULT = 30;
/** From the first to the last day of one answer. */
const DAYS_MAX = 92;
/** How old what is counted may be: of capsules that run and that rest, and where a team asks. */
const RUNNING_AGE_SEC = 60;
const PAUSED_AGE_SEC = 3600;
const ASKED_AGE_SEC = 1;
/** Of one pass, and of one question. */
const COUNTED_MAX = 2000;
const SUMMED_MAX = 500;
/** Less may be the network's doing, or a busy machine's. */
const STEP_MS_MIN = 2000;

/** What both clocks said at once. */
interface Times {
  readonly databaseMs: number;
  readonly steppedMs: number;
  readonly monotonicMs: number;
}

export interface TeamUsageDeps {
  readonly db: Db;
  readonly log: Log;
  readonly monotonicMs: () => number;
}

export class TeamUsage {
  readonly #db: Db;
  readonly #deps: TeamUsageDeps;
  #last: Times | null = null;

  constructor(deps: TeamUsageDeps) {
    this.#db = deps.db;
    this.#deps = deps;
  }

  /** Samples what all teams hold, once in ten seconds, however often it is called; of how many it did now. */
  async sample(): Promise<number> {
    return await insertSamples(this.#db);
  }

  /** Counts what capsules used that have long been as they are; of how many. */
  async count(): Promise<number> {
    await this.#followClock();
    const ages = { runningAgeSec: RUNNING_AGE_SEC, pausedAgeSec: PAUSED_AGE_SEC };
    return await countUse(this.#db, { ...ages, limit: COUNTED_MAX });
  }

  /**
   * Sums up past days, keeps of samples older than a day the most of each hour, for a month, and forgets what is past
   * its time; how many rows went.
   */
  async compact(): Promise<number> {
    while ((await sumDays(this.#db, SUMMED_MAX)) === SUMMED_MAX);
    return (await compactSamples(this.#db)) + (await deleteOldUsage(this.#db));
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
  async usage(teamId: Id<"team">, asked: { from?: string; to?: string }): Promise<Usage> {
    const dates = await this.#dates(asked);
    await this.#countOf(teamId);
    return { ...dates, days: await selectDays(this.#db, { teamId, ...dates }) };
  }

  /** What each of the team's capsules used on those days, ended ones too, by id. Throws as `usage`. */
  async usageOfCapsules(
    teamId: Id<"team">,
    asked: { from?: string; to?: string; after: Id<"capsule"> | null; limit: number },
  ): Promise<CapsuleUsagePage> {
    const dates = await this.#dates(asked);
    await this.#countOf(teamId);
    const { after, limit } = asked;
    const query = { teamId, ...dates, after, limit: limit + 1 };
    const found = await selectCapsuleUsage(this.#db, query);
    const capsules = found.slice(0, limit);
    const next = found.length > limit ? (capsules.at(-1)?.id ?? null) : null;
    return { ...dates, capsules, next };
  }

  async #countOf(teamId: Id<"team">): Promise<void> {
    const ages = { runningAgeSec: ASKED_AGE_SEC, pausedAgeSec: ASKED_AGE_SEC };
    await countUse(this.#db, { teamId, ...ages, limit: COUNTED_MAX });
  }

  async #dates(asked: { from?: string; to?: string }): Promise<{ from: string; to: string }> {
    const to = asked.to ?? dateOf((await databaseNow(this.#db)).getTime());
    const from = asked.from ?? dateOf(Date.parse(to) - DAYS_DEFAULT * DAY_MS);
    const days = (Date.parse(to) - Date.parse(from)) / DAY_MS;
    if (days < 0) throw new AppError("invalid_request", "from: is later than to");
    if (days > DAYS_MAX) {
      throw new AppError("invalid_request", `from: is more than ${DAYS_MAX} days before to`);
    }
    return { from, to };
  }

  /**
   * Notices when the database's clock was set, by our own that nobody sets, and moves along what is counted by it. Of
   * several control planes one does it: the others see how far it was corrected since they looked.
   */
  async #followClock(): Promise<void> {
    const { monotonicMs, log } = this.#deps;
    const last = this.#last;
    this.#last = await this.#db.transaction(async (tx) => {
      const steppedMs = await lockStepped(tx);
      const askedAtMs = monotonicMs();
      const databaseMs = await readClockMs(tx);
      const readAtMs = monotonicMs();
      const now = { databaseMs, steppedMs, monotonicMs: readAtMs };
      if (last === null) return now;
      const passedMs = readAtMs - last.monotonicMs;
      const stepMs = databaseMs - last.databaseMs - passedMs - (steppedMs - last.steppedMs);
      if (Math.abs(stepMs) < STEP_MS_MIN + readAtMs - askedAtMs) return now;
      await moveMarks(tx, { stepMs, withinMs: Math.max(0, passedMs) });
      log.warn("the database's clock was set", { stepMs: Math.round(stepMs) });
      return { ...now, steppedMs: steppedMs + stepMs };
    });
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
