// While Redis is away: what a control plane counts for itself.

import { expect, test } from "bun:test";
import { Redis } from "ioredis";
import { RateLimiter } from "./rate-limiter.ts";

const LIMIT = { name: "test", attemptsMax: 2, windowSec: 900 };
/** What is kept of one limit, and more. */
const MANY = 50_001;

function away(): RateLimiter {
  return new RateLimiter({ redis: new Redis({ lazyConnect: true, enableOfflineQueue: false }) });
}

function attempt(limiter: RateLimiter, subject: string): Promise<string> {
  return limiter.attempt(LIMIT, subject).then(
    () => "taken",
    ({ code, retryAfterSec }) => `${code} ${retryAfterSec}`,
  );
}

test("attempts are counted here, until they are forgotten", async () => {
  const limiter = away();
  const outcomes = [];
  for (let i = 0; i < 3; i++) outcomes.push(await attempt(limiter, "somebody"));
  await limiter.reset(LIMIT, "somebody");
  outcomes.push(await attempt(limiter, "somebody"));

  expect(outcomes).toEqual(["taken", "taken", "rate_limited 900", "taken"]);
});

test("what many addresses leave behind has an end: the oldest is forgotten", async () => {
  const limiter = away();
  for (let i = 0; i < 3; i++) await attempt(limiter, "first");

  for (let i = 1; i < MANY; i++) await attempt(limiter, `other ${i}`);
  const again = [await attempt(limiter, `other ${MANY - 1}`), await attempt(limiter, "first")];

  expect(again).toEqual(["taken", "taken"]);
});
