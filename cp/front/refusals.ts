// What the front answers where the application is not asked, or does not answer: as that tells errors, or a
// page where a browser navigates.

import { headerOf, type RequestHead } from "../../proto/http1/head.ts";
import type { Answer } from "../../proto/http1/verdict.ts";
import { AppError, type ErrorCode } from "../errors.ts";
import { refusalAnswer } from "../proxy/refusals.ts";
import { requestIdOf } from "../request-id.ts";

/** The errors by the status that HTTP gives them. */
const CODES: Readonly<Partial<Record<number, ErrorCode>>> = {
  400: "invalid_request",
  404: "not_found",
  408: "request_timeout",
  413: "too_large",
  429: "rate_limited",
  431: "too_large",
  500: "internal_error",
  503: "service_unavailable",
};

/** The request is null where it was not read. */
export function refuseRequest(
  status: number,
  message: string,
  request: RequestHead | null,
): Answer {
  const code = CODES[status] ?? (status < 500 ? "invalid_request" : "internal_error");
  // Nothing but a route is looked for here.
  const error = new AppError(code, message, status === 404 ? { reason: "route_not_found" } : {});
  const requestId = requestIdOf(request && headerOf(request.headers, "x-request-id"));
  return refusalAnswer(request, {
    ...{ status, message, requestId },
    retryAfterSec: error.retryAfterSec,
    body: error.toBody(requestId),
  });
}
