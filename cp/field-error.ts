// How a client is told that what it sent is not what a schema says.

import { AppError } from "./errors.ts";

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
  const path = (error?.path ?? "").slice(1).replaceAll("/", ".");
  const message = error?.message ?? "is not valid";
  const expected = message.charAt(0).toLowerCase() + message.slice(1);
  return new AppError("invalid_request", `${path || whole}: ${expected}`);
}
