// How often a stranger may try: fixed windows counted in Redis, shared by all replicas. While Redis is
// away each control plane counts for itself, from nothing: whoever knows a password gets in.

import type { Redis } from "ioredis";
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { sha256Hex } from "./digest.ts";
import { AppError } from "./errors.ts";

export interface RateLimit {
  readonly name: string;
  readonly attemptsMax: number;
  readonly windowSec: number;
}

const QUARTER_HOUR_SEC = 900;
const HOUR_SEC = 3600;

/** Failed logins to one account from one address: stops guessing, and can't lock the owner out. */
export const LOGIN_PER_ACCOUNT_AND_ADDRESS: RateLimit = {
  name: "login-account",
  attemptsMax: 10,
  windowSec: QUARTER_HOUR_SEC,
};

/** The same from anywhere: stops who has many addresses. Who is logged in does not notice. */
export const LOGIN_PER_ACCOUNT: RateLimit = {
  name: "login-account-anywhere",
  attemptsMax: 200,
  windowSec: HOUR_SEC,
};

/** Logins from one address, to any account: each costs 19 MiB and 46 ms. An office shares one. */
export const LOGIN_PER_ADDRESS: RateLimit = {
  name: "login-address",
  attemptsMax: 300,
  windowSec: QUARTER_HOUR_SEC,
};

/** Accounts asked for from one address: each sends a mail. */
export const SIGNUP_PER_ADDRESS: RateLimit = {
  name: "signup-address",
  attemptsMax: 300,
  windowSec: HOUR_SEC,
};

/** Codes of mails that one address tries. */
export const CODE_PER_ADDRESS: RateLimit = {
  name: "code-address",
  attemptsMax: 300,
  windowSec: QUARTER_HOUR_SEC,
};

/** Passwords that one address wants reset: each may send a mail. */
export const RESET_PER_ADDRESS: RateLimit = {
  name: "reset-address",
  attemptsMax: 60,
  windowSec: HOUR_SEC,
};

/** Mails to one person, whoever asks for them. */
export const RESET_PER_ACCOUNT: RateLimit = {
  name: "reset-account",
  attemptsMax: 5,
  windowSec: HOUR_SEC,
};

/** Passwords that whoever has a session tries, to change the one that they don't know. */
export const PASSWORD_PER_USER: RateLimit = {
  name: "password-user",
  attemptsMax: 10,
  windowSec: QUARTER_HOUR_SEC,
};

/** People whom one person adds: the answers tell who has an account. */
export const MEMBERS_PER_USER: RateLimit = {
  name: "members-user",
  attemptsMax: 100,
  windowSec: HOUR_SEC,
};

export class RateLimiter {
  readonly #redis: Redis;
  readonly #limiters = new Map<RateLimit, RateLimiterRedis>();

  constructor(deps: { redis: Redis }) {
    this.#redis = deps.redis;
  }

  /** Counts an attempt of `subject`; `rate_limited` once there were too many in the window. */
  async attempt(limit: RateLimit, subject: string): Promise<void> {
    try {
      await this.#limiterOf(limit).consume(sha256Hex(subject));
    } catch (refusal) {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      const retryAfterSec = Math.max(1, Math.ceil(refusal.msBeforeNext / 1000));
      throw new AppError("rate_limited", "too many attempts: try again later", { retryAfterSec });
    }
  }

  /** Forgets the attempts of `subject`. */
  async reset(limit: RateLimit, subject: string): Promise<void> {
    await this.#limiterOf(limit).delete(sha256Hex(subject));
  }

  #limiterOf(limit: RateLimit): RateLimiterRedis {
    const known = this.#limiters.get(limit);
    if (known !== undefined) return known;
    const window = {
      keyPrefix: `wrenn:rate:${limit.name}`,
      points: limit.attemptsMax,
      duration: limit.windowSec,
    };
    const limiter = new RateLimiterRedis({
      ...window,
      storeClient: this.#redis,
      rejectIfRedisNotReady: true,
      insuranceLimiter: new RateLimiterMemory(window),
    });
    this.#limiters.set(limit, limiter);
    return limiter;
  }
}
