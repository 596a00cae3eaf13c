// How a client is told that what it sent is not what a schema says.

import { AppError } from "./errors.ts";

/** A client may have put all of its body into a name. */
const FIELD_LENGTH_MAX = 200;

interface SchemaError {
  /** A JSON pointer. */
  readonly path?: string;
  readonly message?: string;
}

/**
 * Names the field, or `whole` when all of it is wrong, and what was expected. Never the value: it may
 * be a password.
 */
export function fieldError(error: SchemaError | undefined, whole: string): AppError {
  const path = fieldName((error?.path ?? "").slice(1).split("/"));
  const message = error?.message ?? "is not valid";
  const expected = message.charAt(0).toLowerCase() + message.slice(1);
  return new AppError("invalid_request", `${path || whole}: ${expected}`);
}

/** The names on the way to a field, as an error says them: in bounds, and text. Empty without any. */
export function fieldName(path: readonly string[]): string {
  const name = path.join(".");
  const shown = name.length > FIELD_LENGTH_MAX ? `${name.slice(0, FIELD_LENGTH_MAX)}…` : name;
  return shown.toWellFormed();
}
