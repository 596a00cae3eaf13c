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

/** The point in time that a client wrote in `field`; `invalid_request` naming the field when it is none. */
export function parseInstant(text: string, field: string): Date {
  const instant = new Date(INSTANT.test(text) ? text : Number.NaN);
  if (!Number.isNaN(instant.getTime())) return instant;
  throw new AppError("invalid_request", `${field}: must be a time like 2030-01-31T12:00:00Z`);
}
