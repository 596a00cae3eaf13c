// How a client is told that what it sent is not what a schema says.

import { ValueErrorType } from "@sinclair/typebox/errors";
import { AppError } from "./errors.ts";

/** A client may have put all of its body into a name. */
const FIELD_LENGTH_MAX = 200;

interface SchemaError {
  /** A JSON pointer. */
  readonly path?: string;
  readonly type?: ValueErrorType;
  readonly message?: string;
  /** What the field should have been. */
  readonly schema?: unknown;
}

/**
 * Names the field, or `whole` when all of it is wrong, and what was expected. Never the value: it may
 * be a password.
 */
export function fieldError(error: SchemaError | undefined, whole: string): AppError {
  const path = fieldName((error?.path ?? "").slice(1).split("/"));
  return new AppError("invalid_request", `${path || whole}: ${expectation(error)}`);
}

/** In words of ours where those of the library are about its schemas. */
function expectation({ message = "is not valid", schema, type }: SchemaError = {}): string {
  const choices = choicesOf(schema);
  if (choices !== null) return `expected one of ${choices.join(", ")}`;
  if (type === ValueErrorType.ObjectRequiredProperty) return "is missing";
  if (type === ValueErrorType.StringPattern) {
    const { pattern } = schema as { readonly pattern: string };
    return `must match ${pattern}`;
  }
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** The values, or kinds, of a schema that lists them; null of another one. The library tells only that. */
function choicesOf(schema: unknown): readonly unknown[] | null {
  if (typeof schema !== "object" || schema === null) return null;
  if ("enum" in schema && Array.isArray(schema.enum)) return schema.enum;
  if (!("anyOf" in schema) || !Array.isArray(schema.anyOf)) return null;
  const values = schema.anyOf.map(
    (one: { const?: unknown; type?: unknown }) => one.const ?? one.type,
  );
  return values.includes(undefined) ? null : values;
}

/** The names on the way to a field, as an error says them: in bounds, and text. Empty without any. */
export function fieldName(path: readonly string[]): string {
  const name = path.join(".");
  const shown = name.length > FIELD_LENGTH_MAX ? `${name.slice(0, FIELD_LENGTH_MAX)}…` : name;
  return shown.toWellFormed();
}
