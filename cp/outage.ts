// Telling "the database or Redis is away" from "we did something wrong".

/** A cause may have a cause (drizzle wraps the driver's error); a loop of causes must end. */
const CAUSES_MAX = 5;

const OUTAGE_CODES = new Set([
  // The operating system's, and postgres.js's names for its own connection states.
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENOTFOUND",
  "CONNECT_TIMEOUT",
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  // PostgreSQL: too many connections, and shutting down, crashed, starting up.
  "53300",
  "57P01",
  "57P02",
  "57P03",
]);

const REDIS_OUTAGE =
  /^(Connection is closed|Command timed out|Stream isn't writeable|LOADING |Reached the max retries)/;

/** Whether the error, or one that caused it, says that PostgreSQL or Redis can't be reached. */
export function isOutage(error: unknown): boolean {
  let current = error;
  for (let depth = 0; current instanceof Error && depth < CAUSES_MAX; depth++) {
    const code = "code" in current ? String(current.code) : "";
    if (OUTAGE_CODES.has(code) || code.startsWith("08")) return true;
    if (REDIS_OUTAGE.test(current.message)) return true;
    current = current.cause;
  }
  return false;
}
