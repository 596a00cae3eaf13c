// What a failed request answers, for the `response` of a route.

import { STATUS_CODES } from "node:http";
import { Type } from "@sinclair/typebox";
import { type ErrorCode, HTTP_STATUS } from "../errors.ts";

const ErrorBody = Type.Object(
  {
    error: Type.Object({
      code: Type.String({ description: "What went wrong, for programs: one of few." }),
      reason: Type.String({ description: "The same, precisely." }),
      message: Type.String({ description: "What went wrong, for people." }),
      retryable: Type.Boolean({ description: "Whether the same request may succeed later." }),
      request_id: Type.Optional(
        Type.String({ description: "Names the request in the log; also in `X-Request-ID`." }),
      ),
      details: Type.Optional(
        Type.Record(Type.String(), Type.Unknown(), {
          description: "Facts for programs, such as the `field` that is not valid.",
        }),
      ),
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

/** The same for a route that describes its answers itself, in `detail`. */
export function describedErrors(...codes: readonly ErrorCode[]) {
  return Object.fromEntries(codes.map((code) => describedError(HTTP_STATUS[code])));
}

/** A status with what it answers. */
export function describedError(status: number) {
  const content = { "application/json": { schema: { $ref: "#/components/schemas/Error" } } };
  return [status, { description: STATUS_CODES[status] ?? "", content }] as const;
}
