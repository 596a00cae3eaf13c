// Every failure of a request becomes one of our error bodies, here and nowhere else.

import { clearSessionCookies, showsSession } from "./auth/session-cookies.ts";
import { AppError } from "./errors.ts";
import { fieldError } from "./field-error.ts";
import { isBusy, unforeseen } from "./outage.ts";
import type { RequestLogDeps } from "./request-log.ts";

/** How much of a wrong path an answer repeats. */
const PATH_BYTES_MAX = 200;
/** A cause may have a cause; a loop of causes must end. */
const CAUSES_MAX = 5;

interface FailedRequest {
  readonly error: unknown;
  readonly code: string | number;
  readonly request: Request;
}

/** Elysia's `onError`: knows `AppError`, Elysia's own failures, and everything else. */
export function createErrorHandler({ log, requestIds }: RequestLogDeps) {
  return ({ error, code, request }: FailedRequest): Response => {
    const { method } = request;
    const { pathname: path } = new URL(request.url);
    const requestId = requestIds.get(request);
    if (code === "NOT_FOUND") return errorResponse(noSuchRoute(method, path), requestId);
    const known = request.signal.aborted ? clientClosed(error) : toAppError(error, code);
    const fields = { requestId, code: known.code, method, path };
    if (known.code === "client_closed") {
      log.info("the client hung up", { ...fields, error: rootMessage(known) });
    } else if (known.code === "service_unavailable") {
      // During an outage every request fails alike: where from is no news, so no stacks. A statement that took
      // too long, or met another, is news.
      const { cause } = known;
      log.warn("request failed", { ...fields, error: isBusy(cause) ? cause : rootMessage(known) });
    } else if (known.status >= 500 && known.code !== "not_implemented") {
      log.error("request failed", { ...fields, error: known.cause ?? known });
    }
    const response = errorResponse(known, requestId);
    if (isEndOfSession(known, request)) {
      for (const line of clearSessionCookies(request)) response.headers.append("Set-Cookie", line);
    }
    return response;
  };
}

/** The cookies are of no use any more; what else the request showed was refused for itself. */
function isEndOfSession({ reason }: AppError, request: Request): boolean {
  if (reason !== "auth_session_required" || !showsSession(request)) return false;
  return !["x-api-key", "authorization"].some((name) => request.headers.has(name));
}

function rootMessage(error: Error): string {
  let root = error;
  for (let depth = 0; root.cause instanceof Error && depth < CAUSES_MAX; depth++) root = root.cause;
  return root.message;
}

/** The answer that carries the error. */
function errorResponse(error: AppError, requestId: string | undefined): Response {
  const { status, retryAfterSec } = error;
  const headers = retryAfterSec === undefined ? {} : { "Retry-After": String(retryAfterSec) };
  return Response.json(error.toBody(requestId), { status, headers });
}

/**
 * Also for a path that exists with another method. Our clients tell errors apart by the code in a
 * JSON body, so the router's own failures have one too, unlike the first Wrenn's.
 */
function noSuchRoute(method: string, path: string): AppError {
  const message = `no such route: ${method} ${path.slice(0, PATH_BYTES_MAX)}`;
  return new AppError("not_found", message, { reason: "route_not_found" });
}

/** Whatever failed for a client that is gone failed for that reason, or concerns nobody any more. */
function clientClosed(cause: unknown): AppError {
  return new AppError("client_closed", "the client closed the connection", { cause });
}

function toAppError(error: unknown, code: string | number): AppError {
  if (error instanceof AppError) return error;
  const cause = error instanceof Error ? error.cause : undefined;
  switch (code) {
    case "PARSE":
      // What a route's own body parser throws arrives wrapped in Elysia's ParseError.
      if (cause instanceof AppError) return cause;
      if (cause !== undefined && !(cause instanceof SyntaxError)) return unforeseen(cause);
      return new AppError("invalid_request", "invalid JSON body", { cause });
    case "VALIDATION":
      return fromValidation(error);
    case "INVALID_FILE_TYPE":
    case "INVALID_COOKIE_SIGNATURE":
      return new AppError("invalid_request", "the request is not valid", { cause: error });
    default:
      return unforeseen(error);
  }
}

interface ValidationFailure {
  readonly type: string;
  readonly all: readonly { path?: string; message?: string }[];
}

/** Elysia's own message carries the value. */
function fromValidation(error: unknown): AppError {
  const failure = asValidationFailure(error);
  const first = failure.all[0];
  if (failure.type === "response") {
    const cause = new Error(`response fails its schema: ${first?.path}: ${first?.message}`);
    return new AppError("internal_error", "internal error", { cause });
  }
  return fieldError(first, failure.type);
}

function asValidationFailure(error: unknown): ValidationFailure {
  if (error instanceof Error && "type" in error && "all" in error && Array.isArray(error.all)) {
    return { type: String(error.type), all: error.all };
  }
  return { type: "request", all: [] };
}
