// Secrets that work once, in Redis: sent by mail or shown to an operator, kept as their SHA-256.

import type { Redis } from "ioredis";
import { randomHex, sha256Hex } from "./digest.ts";
import { AppError } from "./errors.ts";

export interface TokenKind {
  /** Prefix of the Redis key; the digest follows. */
  readonly keyPrefix: string;
  readonly bytes: number;
  readonly ttlSec: number;
}

export const ACTIVATION: TokenKind = { keyPrefix: "wrenn:activation:", bytes: 16, ttlSec: 1800 };
export const PASSWORD_RESET: TokenKind = {
  keyPrefix: "wrenn:password_reset:",
  bytes: 16,
  ttlSec: 900,
};
/** The state of a visit to a provider of identities. */
export const OAUTH_STATE: TokenKind = { keyPrefix: "wrenn:oauth:", bytes: 32, ttlSec: 600 };
export const HOST_REGISTRATION: TokenKind = { keyPrefix: "host:reg:", bytes: 32, ttlSec: 3600 };

export class OneTimeTokens {
  readonly #redis: Redis;

  constructor(deps: { redis: Redis }) {
    this.#redis = deps.redis;
  }

  /** A fresh token that stands for `subject` until it is redeemed or its time is over. */
  async issue(kind: TokenKind, subject: string): Promise<string> {
    const token = randomHex(kind.bytes);
    await this.#redis.set(kind.keyPrefix + sha256Hex(token), subject, "EX", kind.ttlSec);
    return token;
  }

  /** Makes a token void; one that is void already is no error. */
  async revoke(kind: TokenKind, token: string): Promise<void> {
    await this.#redis.del(kind.keyPrefix + sha256Hex(token));
  }

  /**
   * Takes the token and calls `use` with its subject; null without a call when it is unknown, used
   * or expired. Of many at once, one gets it. When `use` fails for another reason than a refusal
   * (an AppError), the token is put back with the time it had left, so that an outage costs nobody
   * their token.
   */
  async redeem<T>(
    kind: TokenKind,
    token: string,
    use: (subject: string) => Promise<T>,
  ): Promise<T | null> {
    const key = kind.keyPrefix + sha256Hex(token);
    const replies = await this.#redis.multi().pttl(key).getdel(key).exec();
    const leftMs = Number(replies?.[0]?.[1] ?? 0);
    const subject = replies?.[1]?.[1];
    if (typeof subject !== "string") return null;
    try {
      return await use(subject);
    } catch (error) {
      const wasRefused = error instanceof AppError;
      if (!wasRefused && leftMs > 0) await this.#redis.set(key, subject, "PX", leftMs, "NX");
      throw error;
    }
  }
}
