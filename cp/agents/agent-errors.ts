// What a failed call to an agent means to a client of the REST API.

import { Code, ConnectError } from "@connectrpc/connect";
import { AppError, type ErrorCode, type Reason } from "../errors.ts";

/** Header of an agent's error that says what a code is about. */
const REASON_HEADER = "wrenn-reason";

/**
 * What the call was for, because some codes depend on it: a capsule that may go to any host, work
 * that takes room on the one host that can do it, or a call to a running capsule.
 */
export type AgentCall = "create" | "placement" | "capsule";

/**
 * The error for the client, with the agent's error as cause. Texts of codes that are about the
 * client's request are kept: agents write them for clients. All others are replaced.
 */
export function agentFailure(error: unknown, call: AgentCall): AppError {
  const failure = ConnectError.from(error);
  // There is no room for the answer.
  if (failure.cause instanceof AppError) return failure.cause;
  const cause = failure;
  const reason = failure.metadata.get(REASON_HEADER);
  switch (failure.code) {
    case Code.NotFound:
      return reason === "capsule"
        ? new AppError("invalid_state", "The capsule is not running on its host", {
            cause,
            reason: "sandbox_not_running",
          })
        : new AppError("not_found", failure.rawMessage, { cause, ...missing(reason) });
    case Code.InvalidArgument:
    case Code.OutOfRange:
      return new AppError("invalid_request", failure.rawMessage, { cause });
    case Code.FailedPrecondition:
      return new AppError("invalid_state", failure.rawMessage, { cause, ...unready(reason) });
    case Code.AlreadyExists:
    case Code.Aborted:
      return new AppError("conflict", failure.rawMessage, { cause });
    case Code.PermissionDenied:
      return new AppError("forbidden", failure.rawMessage, { cause });
    case Code.ResourceExhausted:
      return call === "capsule"
        ? lack(reason, failure)
        : new AppError("no_hosts_available", "The host has no room left for this", { cause });
    case Code.Unavailable:
      return reason === "guest"
        ? new AppError("agent_error", "The capsule does not answer", { cause })
        : unreachable(call, cause);
    case Code.DeadlineExceeded:
      return new AppError("agent_error", "The host did not answer in time", {
        cause,
        reason: "timeout",
      });
    case Code.Unimplemented:
      return new AppError("not_implemented", "The capsule's host cannot do this", { cause });
    default:
      return isConnectionFailure(failure)
        ? unreachable(call, cause)
        : new AppError("agent_error", "The host failed to do this", { cause });
  }
}

/** What is not there, by what the agent's error is about. */
function missing(subject: string | null): { reason?: Reason } {
  if (subject === "file") return { reason: "file_not_found" };
  if (subject === "template") return { reason: "template_not_found" };
  return subject === "process" ? { reason: "process_not_found" } : {};
}

/** A capsule that was paused or has ended, rather than a file or process that is in no state for it. */
function unready(subject: string | null): { reason?: Reason } {
  return subject === "capsule" ? { reason: "sandbox_not_running" } : {};
}

/** Whether the agent ended while it was asked, or does not listen: not whether it did the work. */
export function isCutOff(error: unknown): boolean {
  const failure = ConnectError.from(error);
  if (failure.code !== Code.Unavailable) return isConnectionFailure(failure);
  return failure.metadata.get(REASON_HEADER) === "host";
}

/** What answered is no agent: the host may as well not listen. */
export class NoAgent extends ConnectError {
  constructor(status: number) {
    const message = `what answers for the host is no agent (HTTP ${status})`;
    super(message, Code.Unavailable, { [REASON_HEADER]: "host" });
  }
}

/** Of a command that printed too much together with others: it has run, and would again. */
function lack(reason: string | null, cause: ConnectError): AppError {
  const wasRun = reason === "output" ? { isRetryable: false } : {};
  const why: { reason?: Reason } = reason === "host" ? { reason: "capacity_unavailable" } : {};
  return new AppError(lackOf(reason), cause.rawMessage, { cause, ...wasRun, ...why });
}

/** What there is too much of, by what the agent's error is about: a file or an output unless told. */
function lackOf(reason: string | null): ErrorCode {
  switch (reason) {
    case "disk":
      return "insufficient_storage";
    case "capsule":
    case "output":
      return "rate_limited";
    case "host":
      return "host_unavailable";
    default:
      return "too_large";
  }
}

function unreachable(call: AgentCall, cause: unknown): AppError {
  return call === "create"
    ? new AppError("no_hosts_available", "No host is available for the capsule", { cause })
    : new AppError("host_unavailable", "The capsule's host does not answer", { cause });
}

/** Bun's fetch rejects with an Error whose code is that of the failed system call. */
function isConnectionFailure(failure: ConnectError): boolean {
  const { cause } = failure;
  if (!(cause instanceof Error) || !("code" in cause)) return false;
  return typeof cause.code === "string" && CONNECTION_FAILURES.has(cause.code);
}

const CONNECTION_FAILURES: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ETIMEDOUT",
]);
