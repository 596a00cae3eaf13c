// How much a team may ask the API: its requests are counted in Redis, by all its keys and people together, and only
// where it is limited.

import type { Id } from "../../proto/ids.ts";
import type { RateLimiter } from "../rate-limiter.ts";

const WINDOW_SEC = 60;

export class TeamRequests {
  readonly #rateLimiter: RateLimiter;
  /** 0: none. */
  readonly #standardMax: number;

  constructor(deps: { rateLimiter: RateLimiter; requestsPerMinute: number }) {
    this.#rateLimiter = deps.rateLimiter;
    this.#standardMax = deps.requestsPerMinute;
  }

  /** Counts a request of the team, whose own limit that is if it has one; `rate_limited` past it. */
  async count(teamId: Id<"team">, ownMax: number | null): Promise<void> {
    const attemptsMax = ownMax ?? this.#standardMax;
    if (attemptsMax === 0) return;
    const limit = { name: "team-requests", attemptsMax, windowSec: WINDOW_SEC };
    await this.#rateLimiter.attempt(limit, teamId);
  }
}
