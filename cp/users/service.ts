// What a signed-in person may know of their own account.

import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import { AppError } from "../errors.ts";
import { type RateLimiter, SEARCHES_PER_USER } from "../rate-limiter.ts";
import { type FoundUser, findSignInMethods, searchUsers } from "./queries.ts";

/** Less finds everybody. */
const SEARCH_LENGTH_MIN = 3;
const FOUND_MAX = 10;

export interface SignInMethods {
  readonly hasPassword: boolean;
  readonly providers: readonly string[];
}

export class Users {
  readonly #db: Db;
  readonly #rateLimiter: RateLimiter;

  constructor(deps: { db: Db; rateLimiter: RateLimiter }) {
    this.#db = deps.db;
    this.#rateLimiter = deps.rateLimiter;
  }

  async signInMethods(id: Id<"user">): Promise<SignInMethods> {
    return await findSignInMethods(this.#db, id);
  }

  /**
   * Active accounts whose address begins with the text: of people who are in a team with whoever asks, and of others
   * only the one whose whole address it is, so that nobody learns addresses. Throws `rate_limited`, and
   * `invalid_request` for less than three characters or what has no `@`.
   */
  async search(by: Id<"user">, text: string): Promise<FoundUser[]> {
    const start = text.trim().normalize("NFC").toLowerCase();
    if (start.length < SEARCH_LENGTH_MIN || !start.includes("@")) {
      throw new AppError("invalid_request", "email: must have 3 characters, and an @");
    }
    await this.#rateLimiter.attempt(SEARCHES_PER_USER, by);
    return await searchUsers(this.#db, { by, start, limit: FOUND_MAX });
  }
}
