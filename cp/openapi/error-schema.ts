// What a failed request answers, for the `response` of a route.

import { Type } from "@sinclair/typebox";
import { type ErrorCode, HTTP_STATUS } from "../errors.ts";

const ErrorBody = Type.Object(
  {
    error: Type.Object({
      code: Type.String({ description: "What went wrong, for programs." }),
      message: Type.String({ description: "What went wrong, for people." }),
    }),
  },
  { $id: "Error" },
);

type ErrorResponses<C extends ErrorCode> = {
  [K in C as (typeof HTTP_STATUS)[K]]: typeof ErrorBody;
};

/**
 * The error answers that a route documents: `response: { 200: Team, ...errors("not_found") }`. The
 * bodies themselves are made by the error handler alone.
 */
export function errors<C extends ErrorCode>(...codes: readonly C[]): ErrorResponses<C> {
  const statuses = codes.map((code) => [HTTP_STATUS[code], ErrorBody] as const);
  return Object.fromEntries(statuses) as ErrorResponses<C>;
}
