// How ids and times look in requests and answers.

import { decodeId, type Id, type IdKind } from "../proto/ids.ts";
import { AppError } from "./errors.ts";

/** Longest external id, with room: what a schema allows where an id is expected. */
export const ID_LENGTH_MAX = 64;

/** RFC 3339 in UTC with second precision, as every answer writes times. */
export function timestamp(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

/** The id that a client wrote in `field`; `invalid_request` naming the field when it is none. */
export function parseId<K extends IdKind>(kind: K, text: string, field: string): Id<K> {
  const id = decodeId(kind, text);
  if (id === null) throw new AppError("invalid_request", `${field}: not a valid id`);
  return id;
}

/** RFC 3339 with a zone. */
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i;

/** With zones there are times of years that have not four digits, or that databases have none of. */
const INSTANT_MS_MIN = Date.parse("0001-01-01T00:00:00Z");
const INSTANT_MS_MAX = Date.parse("9999-12-31T23:59:59.999Z");

/** The point in time that a client wrote in `field`; `invalid_request` naming the field when it is none. */
export function parseInstant(text: string, field: string): Date {
  const instant = new Date(INSTANT.test(text) ? text : Number.NaN);
  if (instant.getTime() >= INSTANT_MS_MIN && instant.getTime() <= INSTANT_MS_MAX) return instant;
  throw new AppError("invalid_request", `${field}: must be a time like 2030-01-31T12:00:00Z`);
}
