// Telling "the database or Redis is away" from "we did something wrong".

import { AppError } from "./errors.ts";

/** A cause may have a cause (drizzle wraps the driver's error); a loop of causes must end. */
const CAUSES_MAX = 5;

/** The operating system's, and postgres.js's names for its own connection states. */
const LOST_CODES = new Set([
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
]);

/**
 * PostgreSQL's, with which a session ends or none begins (its manual, appendix A): connection exceptions; too many
 * connections; ended, crashed, starting up, dropped, idle for too long; a transaction that took too long.
 */
const LOST_STATES = /^(08...|53300|57P0[1-5]|25P0[34])$/;

/**
 * And those of a statement that did nothing and may do it another time: short of disk, memory or settings; ended
 * by its timeout or by an operator; a deadlock, a serialization failure, a lock that was not to be waited for; on
 * a server that has become, or is still, a standby; an error of the system below.
 */
const BUSY_STATES = /^(53...|57014|40001|40P01|55P03|25006|58030)$/;

const REDIS_OUTAGE =
  /^(Connection is closed|Command timed out|Stream isn't writeable|LOADING |Reached the max retries)/;

/** What a client is told of an error that nobody made for it: to try again, or that we failed. */
export function unforeseen(cause: unknown): AppError {
  if (!isOutage(cause)) return new AppError("internal_error", "internal error", { cause });
  const message = "the service is temporarily unavailable: try again";
  return new AppError("service_unavailable", message, { cause });
}

/** Whether the error, or one that caused it, says that PostgreSQL or Redis can't serve for now. */
export function isOutage(error: unknown): boolean {
  return isLost(error) || isBusy(error);
}

/** Whether it says that there is no connection, or none any more. */
export function isLost(error: unknown): boolean {
  return causes(error).some(
    ({ code, message }) =>
      LOST_CODES.has(code) || LOST_STATES.test(code) || REDIS_OUTAGE.test(message),
  );
}

/** Whether it says that PostgreSQL did not do a statement which it may do another time. */
export function isBusy(error: unknown): boolean {
  return causes(error).some(({ code }) => BUSY_STATES.test(code));
}

function causes(error: unknown): { code: string; message: string }[] {
  const found: { code: string; message: string }[] = [];
  let current = error;
  for (let depth = 0; current instanceof Error && depth < CAUSES_MAX; depth++) {
    found.push({ code: "code" in current ? String(current.code) : "", message: current.message });
    current = current.cause;
  }
  return found;
}
