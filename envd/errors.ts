// The one error that clients of envd see, over RPC and over plain HTTP alike.
import { Code, ConnectError } from "@connectrpc/connect";
import { ENVD_ERROR_HEADER } from "../proto/envd-routes.ts";

const WIRE = {
  invalid_argument: { rpc: Code.InvalidArgument, http: 400 },
  unauthenticated: { rpc: Code.Unauthenticated, http: 401 },
  permission_denied: { rpc: Code.PermissionDenied, http: 403 },
  not_found: { rpc: Code.NotFound, http: 404 },
  method_not_allowed: { rpc: Code.Unimplemented, http: 405 },
  not_acceptable: { rpc: Code.InvalidArgument, http: 406 },
  already_exists: { rpc: Code.AlreadyExists, http: 409 },
  failed_precondition: { rpc: Code.FailedPrecondition, http: 400 },
  too_large: { rpc: Code.ResourceExhausted, http: 413 },
  unsupported_media_type: { rpc: Code.InvalidArgument, http: 415 },
  deadline_exceeded: { rpc: Code.DeadlineExceeded, http: 504 },
  range_not_satisfiable: { rpc: Code.OutOfRange, http: 416 },
  resource_exhausted: { rpc: Code.ResourceExhausted, http: 429 },
  internal: { rpc: Code.Internal, http: 500 },
  unimplemented: { rpc: Code.Unimplemented, http: 501 },
  no_space: { rpc: Code.ResourceExhausted, http: 507 },
} as const;

export type ErrorCode = keyof typeof WIRE;

/** An error whose message is meant for the client. The cause is not shown. */
export class EnvdError extends ConnectError {
  readonly httpStatus: number;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(message, WIRE[code].rpc, { [ENVD_ERROR_HEADER]: code }, undefined, options.cause);
    this.httpStatus = WIRE[code].http;
  }
}

/** The errno name of a failed system call, or null for any other error. */
export function errnoOf(error: unknown): string | null {
  if (!(error instanceof Error) || !("code" in error)) return null;
  return typeof error.code === "string" ? error.code : null;
}

/** What a failed file operation on a path means to the client; other errors come back as they are. */
export function fileError(error: unknown, path: string): unknown {
  const cause = { cause: error };
  switch (errnoOf(error)) {
    case "ENOENT":
      return new EnvdError("not_found", `path '${path}' does not exist`, cause);
    case "ENOTDIR":
      return new EnvdError("invalid_argument", `path '${path}' passes through a file`, cause);
    case "EISDIR":
      return new EnvdError("invalid_argument", `path '${path}' is a directory`, cause);
    case "ENXIO":
      return new EnvdError("invalid_argument", `path '${path}' is no regular file`, cause);
    case "ELOOP":
      return new EnvdError("invalid_argument", `path '${path}' has too many links`, cause);
    case "ENAMETOOLONG":
      return new EnvdError("invalid_argument", `path '${path}' is too long`, cause);
    case "EEXIST":
      return new EnvdError("already_exists", `path '${path}' already exists`, cause);
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new EnvdError("permission_denied", `path '${path}' may not be changed or read`, cause);
    case "EBUSY":
    case "ETXTBSY":
      return new EnvdError("failed_precondition", `path '${path}' is in use`, cause);
    case "ENOSPC":
    case "EDQUOT":
      return new EnvdError("no_space", "not enough disk space available", cause);
    case "EMFILE":
    case "ENFILE":
      return new EnvdError("resource_exhausted", "too many open files", cause);
    case null:
      return error;
    default:
      return new EnvdError("failed_precondition", `path '${path}': ${failureOf(error)}`, cause);
  }
}

/** What the kernel says when it is about the file and not about us, as EIO for /proc/self/mem. */
function failureOf(error: unknown): string {
  return `the system refuses to read or write it (${errnoOf(error)})`;
}
