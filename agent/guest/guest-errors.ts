// What a failed call to envd means. Texts of the guest are cut and cleaned: they are its own words.

import { Code, ConnectError } from "@connectrpc/connect";
import { ENVD_ERROR_HEADER } from "../../proto/envd-routes.ts";
import { AgentError, type AgentErrorCode, type ErrorSubject } from "../errors.ts";
import { GUEST_TEXT_MAX } from "../limits.ts";

// Codes that describe the request and hence mean the same one level up. Everything else is about the
// guest itself.
const PASSED_ON: Partial<Record<Code, AgentErrorCode>> = {
  [Code.InvalidArgument]: "invalid_argument",
  [Code.OutOfRange]: "invalid_argument",
  [Code.NotFound]: "not_found",
  [Code.AlreadyExists]: "already_exists",
  [Code.PermissionDenied]: "permission_denied",
  [Code.ResourceExhausted]: "resource_exhausted",
  [Code.FailedPrecondition]: "failed_precondition",
};

export interface GuestCall {
  /** What an answer such as not_found is about. */
  readonly subject: ErrorSubject;
  /** The user that the call named, if it did. */
  readonly user?: string;
  /** Ends when the capsule does. */
  readonly closed: AbortSignal;
}

/** What a lack in the guest is one of, by the word of envd; a bound of the guest's, if it has none. */
const LACKS: Readonly<Record<string, ErrorSubject>> = { no_space: "disk", too_large: "file" };

/** Turns what a call threw into an AgentError; AgentErrors pass unchanged. */
export function guestError(error: unknown, call: GuestCall): AgentError {
  if (error instanceof AgentError) return error;
  const { aborted, reason } = call.closed;
  if (aborted && reason instanceof AgentError) return reason;
  const wrapped = ConnectError.from(error);
  if (wrapped.cause instanceof AgentError) return wrapped.cause;
  if (wrapped.isWireError) return fromWire(wrapped, call);
  if (wrapped.code === Code.ResourceExhausted) {
    return new AgentError("resource_exhausted", "The guest's answer is too large", {
      subject: "guest",
      cause: error,
    });
  }
  return new AgentError("unavailable", "The guest does not answer", {
    subject: "guest",
    cause: error,
  });
}

/** An answer of /files: its status and its JSON body `{code, message}`. */
export function guestHttpError(status: number, body: string, path: string): AgentError {
  const message = guestText(messageOf(body)) || `status ${status}`;
  const make = (code: AgentErrorCode, text: string, subject: ErrorSubject = "file") =>
    new AgentError(code, text, { subject, cause: message });
  const aboutPath = message.startsWith("path") ? message : `path: ${message}`;
  if (status === 404) return make("not_found", `path '${path}' does not exist`);
  if (status === 400) return make("invalid_argument", aboutPath);
  // The token is the agent's: what is unknown is the user.
  if (status === 401) return make("invalid_argument", `user: ${message}`, "request");
  if (status === 403) return make("permission_denied", aboutPath);
  if (status === 413) return make("resource_exhausted", message);
  if (status === 429) return make("resource_exhausted", message, "capsule");
  if (status === 507) return make("resource_exhausted", message, "disk");
  return new AgentError("unavailable", `The guest refused the call (${status})`, {
    subject: "guest",
    cause: message,
  });
}

/** Text of a guest made safe to pass on: one line, without control characters, cut. */
export function guestText(text: string): string {
  return text
    .slice(0, GUEST_TEXT_MAX)
    .replace(/\p{C}+/gu, " ")
    .trim();
}

function fromWire(error: ConnectError, call: GuestCall): AgentError {
  const text = guestText(error.rawMessage) || "no reason given";
  if (error.code === Code.Unauthenticated && call.user) {
    return new AgentError("invalid_argument", `user: ${text}`, {
      subject: "request",
      cause: error,
    });
  }
  const code = PASSED_ON[error.code];
  if (code) return new AgentError(code, text, { subject: subjectOf(error, call), cause: error });
  return new AgentError("unavailable", "The guest failed to do it", {
    subject: "guest",
    cause: error,
  });
}

/** An envd of before names its errors by their code alone. */
function subjectOf(error: ConnectError, { subject }: GuestCall): ErrorSubject {
  const name = error.metadata.get(ENVD_ERROR_HEADER);
  if (error.code !== Code.ResourceExhausted || name === null) return subject;
  return LACKS[name] ?? "capsule";
}

function messageOf(body: string): string {
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed !== "object" || parsed === null || !("message" in parsed)) return "";
    return String(parsed.message);
  } catch {
    // Not JSON: then it is no message of envd, and the status has to do.
    return "";
  }
}
