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
