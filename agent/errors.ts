// The errors the agent answers with: a closed set of codes, a sentence for the caller, a cause for the log.

/** Codes of the Connect protocol that the agent uses. */
export type AgentErrorCode =
  | "aborted"
  | "already_exists"
  | "deadline_exceeded"
  | "failed_precondition"
  | "internal"
  | "invalid_argument"
  | "not_found"
  | "permission_denied"
  | "resource_exhausted"
  | "unavailable";

/** What the error is about; tells a missing file from a missing capsule. */
export type ErrorSubject =
  | "capsule"
  /** The guest's own, which is full. */
  | "disk"
  | "file"
  | "generation"
  | "guest"
  | "host"
  /** What a command printed, with that of others: it was ended for it. */
  | "output"
  | "process"
  | "request"
  | "template";

/** The message goes to the control plane: one sentence, without paths of the host. */
export class AgentError extends Error {
  override readonly name = "AgentError";
  readonly code: AgentErrorCode;
  readonly subject: ErrorSubject;

  constructor(
    code: AgentErrorCode,
    message: string,
    options: { subject: ErrorSubject; cause?: unknown },
  ) {
    super(message, { cause: options.cause });
    this.code = code;
    this.subject = options.subject;
  }
}

/** A field of a request breaks its rule. The message starts with the field's name. */
export function invalidField(field: string, rule: string): AgentError {
  return new AgentError("invalid_argument", `${field}: ${rule}`, { subject: "request" });
}

/** The capsule is not on this host. */
export function unknownCapsule(id: string): AgentError {
  return new AgentError("not_found", `Capsule "${id}" is not on this host`, { subject: "capsule" });
}

/** What the capsule was to be made of is not on this host, or not any more. */
export function unknownTemplate(cause?: unknown): AgentError {
  const message = "The host does not have the template";
  return new AgentError("not_found", message, { subject: "template", cause });
}

/** What went wrong with all its causes, for the log. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = `${error.name}: ${error.message}`;
  return error.cause === undefined ? own : `${own} <- ${describeError(error.cause)}`;
}
