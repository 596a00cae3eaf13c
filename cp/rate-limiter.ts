// How often a stranger may try: fixed windows counted in Redis, shared by all replicas. While Redis is
// away each control plane counts for itself, from nothing: whoever knows a password gets in.

import type { Redis } from "ioredis";
import { RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { sha256Hex } from "./digest.ts";
import { AppError } from "./errors.ts";

export interface RateLimit {
  readonly name: string;
  readonly attemptsMax: number;
  readonly windowSec: number;
}

/**
 * Of one limit: some 10 MB. Beyond that the oldest are forgotten, which gives whoever has so many addresses, or
 * tries so many accounts, a few attempts more.
 */
const LOCAL_WINDOWS_MAX = 50_000;
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

/** People whom one person adds or invites: the answers tell who has an account, or mails go out. */
export const MEMBERS_PER_USER: RateLimit = {
  name: "members-user",
  attemptsMax: 100,
  windowSec: HOUR_SEC,
};

/** Invitations to one mail address, whoever sends them. */
export const INVITATIONS_PER_RECIPIENT: RateLimit = {
  name: "invitations-recipient",
  attemptsMax: 10,
  windowSec: HOUR_SEC,
};

/** Visits to providers of identities that begin at one address, or that one person connects. */
export const OAUTH_PER_ADDRESS: RateLimit = {
  name: "oauth-address",
  attemptsMax: 300,
  windowSec: QUARTER_HOUR_SEC,
};

/** Tests of channels: each sends something to an address that somebody named. */
export const CHANNEL_TESTS_PER_TEAM: RateLimit = {
  name: "channel-tests-team",
  attemptsMax: 60,
  windowSec: QUARTER_HOUR_SEC,
};

/** Searches of one person for others, one for each letter that they type. */
export const SEARCHES_PER_USER: RateLimit = {
  name: "searches-user",
  attemptsMax: 300,
  windowSec: QUARTER_HOUR_SEC,
};

export class RateLimiter {
  readonly #redis: Redis;
  /** By name and size: of a name there may be several, for some teams have limits of their own. */
  readonly #limiters = new Map<string, Limiter>();

  constructor(deps: { redis: Redis }) {
    this.#redis = deps.redis;
  }

  /** Counts an attempt of `subject`; `rate_limited` once there were too many in the window. */
  async attempt(limit: RateLimit, subject: string): Promise<void> {
    const { shared, local } = this.#limiterOf(limit);
    const key = sha256Hex(subject);
    let leftMs: number;
    try {
      await shared.consume(key);
      return;
    } catch (refusal) {
      leftMs = refusal instanceof RateLimiterRes ? refusal.msBeforeNext : local.attempt(key);
    }
    if (leftMs === 0) return;
    const retryAfterSec = Math.max(1, Math.ceil(leftMs / 1000));
    throw new AppError("rate_limited", "too many attempts: try again later", { retryAfterSec });
  }

  /** Forgets the attempts of `subject`. */
  async reset(limit: RateLimit, subject: string): Promise<void> {
    const { shared, local } = this.#limiterOf(limit);
    const key = sha256Hex(subject);
    local.forget(key);
    // While Redis is away what it counted stays until its window ends.
    await shared.delete(key).catch(() => {});
  }

  #limiterOf(limit: RateLimit): Limiter {
    const key = `${limit.name} ${limit.attemptsMax}`;
    const known = this.#limiters.get(key);
    if (known !== undefined) return known;
    const shared = new RateLimiterRedis({
      keyPrefix: `wrenn:rate:${limit.name}`,
      points: limit.attemptsMax,
      duration: limit.windowSec,
      storeClient: this.#redis,
      rejectIfRedisNotReady: true,
    });
    const limiter = { shared, local: new LocalAttempts(limit) };
    this.#limiters.set(key, limiter);
    return limiter;
  }
}

interface Limiter {
  readonly shared: RateLimiterRedis;
  readonly local: LocalAttempts;
}

/** What one control plane counts of a limit while Redis is away. */
class LocalAttempts {
  readonly #attemptsMax: number;
  readonly #windowMs: number;
  /** The one that began first ends first, and is the first. */
  readonly #windows = new Map<string, { attempts: number; readonly endsAtMs: number }>();

  constructor({ attemptsMax, windowSec }: RateLimit) {
    this.#attemptsMax = attemptsMax;
    this.#windowMs = windowSec * 1000;
  }

  /** Counts one; 0, or when there were too many, in how many milliseconds the window ends. */
  attempt(key: string): number {
    const nowMs = performance.now();
    this.#makeRoom(nowMs);
    const window = this.#windows.get(key) ?? { attempts: 0, endsAtMs: nowMs + this.#windowMs };
    this.#windows.set(key, window);
    window.attempts += 1;
    return window.attempts <= this.#attemptsMax ? 0 : window.endsAtMs - nowMs;
  }

  forget(key: string): void {
    this.#windows.delete(key);
  }

  #makeRoom(nowMs: number): void {
    for (const [key, { endsAtMs }] of this.#windows) {
      if (endsAtMs > nowMs && this.#windows.size < LOCAL_WINDOWS_MAX) return;
      this.#windows.delete(key);
    }
  }
}
