import { expect, test } from "bun:test";
import { Redis } from "ioredis";
import { AppError } from "./errors.ts";
import { RateLimiter } from "./rate-limiter.ts";

const LIMIT = { name: "test", attemptsMax: 2, windowSec: 900 };

async function ownRedis(stack: AsyncDisposableStack) {
  const keyPrefix = `test-${crypto.randomUUID()}:`;
  const redis = stack.adopt(new Redis(process.env.REDIS_URL ?? "", { keyPrefix }), (own) =>
    own.disconnect(),
  );
  // Until it is connected each limiter counts for itself.
  await redis.ping();
  return redis;
}

test("several control planes count together", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await ownRedis(stack);
  const limiters = [new RateLimiter({ redis }), new RateLimiter({ redis })];
  const outcomes: string[] = [];
  for (let i = 0; i < 4; i++) {
    const attempt = limiters[i % 2]?.attempt(LIMIT, "somebody");
    outcomes.push(
      await (attempt ?? Promise.resolve()).then(
        () => "taken",
        ({ code }) => code,
      ),
    );
  }

  expect(outcomes).toEqual(["taken", "taken", "rate_limited", "rate_limited"]);
  await limiters[0]?.reset(LIMIT, "somebody");
});

test("a window ends when it would have without further attempts, and its end is told", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await ownRedis(stack);
  const keyPrefix = redis.options.keyPrefix ?? "";
  const limiter = new RateLimiter({ redis });
  const attempt = () => limiter.attempt(LIMIT, "somebody");
  await attempt();
  const [key = ""] = await redis.keys(`${keyPrefix}*`);
  await redis.expire(key.slice(keyPrefix.length), 100);

  await attempt();
  const refusal = await attempt().catch((error) => error);

  expect(refusal).toBeInstanceOf(AppError);
  expect(refusal.code).toBe("rate_limited");
  expect(refusal.retryAfterSec).toBeWithin(1, 101);
  await limiter.reset(LIMIT, "somebody");
  await attempt();
  await limiter.reset(LIMIT, "somebody");
});
