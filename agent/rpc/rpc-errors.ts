// AgentErrors on the wire: Connect codes, and what they are about in a header.

import { Code, ConnectError } from "@connectrpc/connect";
import { AgentError, type AgentErrorCode } from "../errors.ts";
import type { Log } from "../log.ts";

/** Tells a missing file from a missing capsule. */
const REASON_HEADER = "wrenn-reason";

const CODES: Record<AgentErrorCode, Code> = {
  aborted: Code.Aborted,
  already_exists: Code.AlreadyExists,
  deadline_exceeded: Code.DeadlineExceeded,
  failed_precondition: Code.FailedPrecondition,
  internal: Code.Internal,
  invalid_argument: Code.InvalidArgument,
  not_found: Code.NotFound,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  unavailable: Code.Unavailable,
};

/** The error as the caller gets it; whatever is nobody's answer is logged and hidden. */
export function toConnectError(error: unknown, method: string, log: Log): ConnectError {
  if (error instanceof ConnectError) return error;
  if (!(error instanceof AgentError)) {
    log.error("rpc.failed", { method, error });
    return new ConnectError("The agent failed", Code.Internal);
  }
  const isOurs = error.code === "internal" || error.code === "unavailable";
  log[isOurs ? "warn" : "debug"]("rpc.refused", { method, error });
  return new ConnectError(error.message, CODES[error.code], { [REASON_HEADER]: error.subject });
}
