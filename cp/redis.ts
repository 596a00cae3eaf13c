// The connection to Redis: one-time tokens, limits, hints. Nothing in it is the only copy of a fact.

import { Redis } from "ioredis";
import type { Log } from "./log.ts";

const CONNECT_TIMEOUT_MS = 5_000;
/** A request that needs Redis fails after this; it must not hang while Redis is away. */
const COMMAND_TIMEOUT_MS = 3_000;
const RECONNECT_MS_MAX = 500;

/** Connects in the background, for as long as it takes; commands fail while there is no connection. */
export function openRedis(url: string, log: Log): Redis {
  const redis = new Redis(url, {
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: COMMAND_TIMEOUT_MS,
    maxRetriesPerRequest: 1,
    retryStrategy: (attempt) => Math.min(50 * attempt, RECONNECT_MS_MAX),
  });
  let isAway = false;
  redis.on("error", (error) => {
    if (!isAway) log.warn("redis is away", { error });
    isAway = true;
  });
  redis.on("ready", () => {
    if (isAway) log.info("redis is back");
    isAway = false;
  });
  return redis;
}
