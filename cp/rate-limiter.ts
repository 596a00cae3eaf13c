// How often a stranger may try: fixed windows counted in Redis, shared by all replicas.

import type { Redis } from "ioredis";
import { sha256Hex } from "./digest.ts";
import { AppError } from "./errors.ts";

export interface RateLimit {
  readonly name: string;
  readonly attemptsMax: number;
  readonly windowSec: number;
}

/** Failed logins to one account from one address: stops guessing, and can't lock the owner out. */
export const LOGIN_PER_ACCOUNT: RateLimit = {
  name: "login-account",
  attemptsMax: 10,
  windowSec: 900,
};

/** Logins from one address, to any account: each costs 19 MiB and 46 ms. An office shares one. */
export const LOGIN_PER_ADDRESS: RateLimit = {
  name: "login-address",
  attemptsMax: 300,
  windowSec: 900,
};

/** Accounts asked for from one address: each sends a mail. */
export const SIGNUP_PER_ADDRESS: RateLimit = {
  name: "signup-address",
  attemptsMax: 300,
  windowSec: 3600,
};

export class RateLimiter {
  readonly #redis: Redis;

  constructor(deps: { redis: Redis }) {
    this.#redis = deps.redis;
  }

  /** Counts an attempt of `subject`; `rate_limited` once there were too many in the window. */
  async attempt(limit: RateLimit, subject: string): Promise<void> {
    const key = keyOf(limit, subject);
    const replies = await this.#redis
      .multi()
      .incr(key)
      .expire(key, limit.windowSec, "NX")
      .ttl(key)
      .exec();
    if (Number(replies?.[0]?.[1]) <= limit.attemptsMax) return;
    const retryAfterSec = Math.max(1, Number(replies?.[2]?.[1]));
    throw new AppError("rate_limited", "too many attempts: try again later", { retryAfterSec });
  }

  /** Forgets the attempts of `subject`. */
  async reset(limit: RateLimit, subject: string): Promise<void> {
    await this.#redis.del(keyOf(limit, subject));
  }
}

function keyOf(limit: RateLimit, subject: string): string {
  return `wrenn:rate:${limit.name}:${sha256Hex(subject)}`;
}
