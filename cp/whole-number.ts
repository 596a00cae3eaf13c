// Whole numbers in queries. Elysia's own, `t.Integer`, refuses one out of bounds without saying which field it
// was, so a query keeps its text until the route reads it.

import { Kind, Type } from "@sinclair/typebox";
import { AppError } from "./errors.ts";

interface Bounds {
  readonly minimum: number;
  readonly maximum: number;
}

/** Of a query's field, for the description of the API: a number there, text in the request. */
export function wholeNumber(options: Bounds & { readonly description: string }) {
  return Type.Unsafe<string>({ [Kind]: "Any", type: "integer", ...options });
}

/** The number of the field `name`. Throws `invalid_request` naming it, also for any other text. */
export function parseWholeNumber(text: string, name: string, { minimum, maximum }: Bounds): number {
  const number = /^-?[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= minimum && number <= maximum) return number;
  const message = `${name}: must be a whole number from ${minimum} to ${maximum}`;
  throw new AppError("invalid_request", message);
}
