// The one error a client may see, and the one table that gives each code its HTTP status.

/**
 * Every error code of the REST API. The codes are part of the wire: clients tell failures apart by
 * code, not by status.
 */
export const HTTP_STATUS = {
  invalid_request: 400,
  already_activated: 400,
  invalid_token: 400,
  last_login_method: 400,
  read_error: 400,
  unauthorized: 401,
  wrong_password: 401,
  concurrent_sandbox_limit: 402,
  disk_limit: 402,
  memory_limit: 402,
  snapshot_limit: 402,
  snapshot_storage_limit: 402,
  usage_unavailable: 402,
  vcpu_limit: 402,
  account_deactivated: 403,
  account_disabled: 403,
  account_not_activated: 403,
  forbidden: 403,
  no_team: 403,
  not_found: 404,
  provider_not_found: 404,
  request_timeout: 408,
  conflict: 409,
  email_taken: 409,
  has_active_sandboxes: 409,
  invalid_state: 409,
  name_reserved: 409,
  owns_team_with_members: 409,
  signup_cooldown: 409,
  template_name_taken: 409,
  too_large: 413,
  rate_limited: 429,
  // nginx's number: nobody gets this answer, but log and metrics tell it.
  client_closed: 499,
  build_error: 500,
  internal_error: 500,
  signup_hook_failed: 500,
  not_implemented: 501,
  agent_error: 502,
  host_unavailable: 503,
  no_hosts_available: 503,
  service_unavailable: 503,
  exec_timeout: 504,
  insufficient_storage: 507,
} as const;

export type ErrorCode = keyof typeof HTTP_STATUS;

/** The code that a program wrote down, maybe another version; `internal_error` when it is none. */
export function toErrorCode(text: string): ErrorCode {
  const isCode = (code: string): code is ErrorCode => Object.hasOwn(HTTP_STATUS, code);
  return isCode(text) ? text : "internal_error";
}

/**
 * The precise reasons, each with the code or codes that it is a case of. Published clients tell failures apart by code,
 * which stays coarse; newer ones by reason.
 */
export const REASONS = {
  validation_failed: "invalid_request",
  auth_token_invalid: "invalid_token",
  auth_already_activated: "already_activated",
  auth_invalid_api_key: "unauthorized",
  auth_invalid_credentials: ["unauthorized", "wrong_password"],
  auth_session_required: "unauthorized",
  auth_csrf_failed: "forbidden",
  auth_scope_missing: "forbidden",
  auth_account_disabled: "account_disabled",
  auth_account_not_activated: "account_not_activated",
  auth_email_taken: "email_taken",
  auth_signup_cooldown: "signup_cooldown",
  origin_not_allowed: "forbidden",
  template_protected: "forbidden",
  build_not_found: "not_found",
  channel_not_found: "not_found",
  delivery_not_found: "not_found",
  file_not_found: "not_found",
  host_deleted: "not_found",
  host_not_found: "not_found",
  metrics_not_found: "not_found",
  process_not_found: "not_found",
  provider_not_connected: "not_found",
  route_not_found: "not_found",
  sandbox_not_found: "not_found",
  snapshot_not_found: "not_found",
  team_not_found: "not_found",
  template_not_found: "not_found",
  user_not_found: "not_found",
  sandbox_not_paused: "invalid_state",
  sandbox_not_running: "invalid_state",
  payload_too_large: "too_large",
  disk_full: "insufficient_storage",
  capacity_unavailable: ["no_hosts_available", "host_unavailable"],
  host_draining: "host_unavailable",
  host_unreachable: "host_unavailable",
  sandbox_unresponsive: "agent_error",
  timeout: ["exec_timeout", "agent_error"],
} as const satisfies Record<string, ErrorCode | readonly ErrorCode[]>;

export type Reason = keyof typeof REASONS;

/** The reason that a program wrote down, maybe another version; undefined when it is none. */
export function toReason(text: string): Reason | undefined {
  const isReason = (reason: string): reason is Reason => Object.hasOwn(REASONS, reason);
  return isReason(text) ? text : undefined;
}

/** What an error of the code is a case of unless it says otherwise; of the others the code says it all. */
const USUAL_REASONS: Partial<Record<ErrorCode, Reason>> = {
  invalid_request: "validation_failed",
  invalid_token: "auth_token_invalid",
  already_activated: "auth_already_activated",
  unauthorized: "auth_session_required",
  wrong_password: "auth_invalid_credentials",
  account_disabled: "auth_account_disabled",
  account_not_activated: "auth_account_not_activated",
  email_taken: "auth_email_taken",
  signup_cooldown: "auth_signup_cooldown",
  too_large: "payload_too_large",
  insufficient_storage: "disk_full",
  no_hosts_available: "capacity_unavailable",
  host_unavailable: "host_unreachable",
  agent_error: "sandbox_unresponsive",
  exec_timeout: "timeout",
};

/**
 * The same request may succeed later. Not exec_timeout: the command has run, and would again.
 */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set([
  "request_timeout",
  "rate_limited",
  "agent_error",
  "host_unavailable",
  "no_hosts_available",
  "service_unavailable",
]);

/** What `Retry-After` says unless the error knows better: how soon what is short can be there again. */
const RETRY_AFTER_SEC: Partial<Record<ErrorCode, number>> = {
  rate_limited: 1,
  host_unavailable: 1,
  no_hosts_available: 5,
  service_unavailable: 1,
};

/**
 * The field that a message about a request begins with, as in `name: must have 1 to 100 bytes` and
 * `path '/etc' is a directory`.
 */
const FIELD = /^([A-Za-z_][\w.[\]-]*)(?:: | ')/;

export interface AppErrorOptions {
  /** What went wrong underneath: for the log, never for the client. */
  cause?: unknown;
  /** Which case of the code it is, where that is not the usual one. */
  reason?: Reason;
  /** Whether the same request may succeed later, where that is not as usual for the code. */
  isRetryable?: boolean;
  /** When it may, where that is known. */
  retryAfterSec?: number;
  /** Facts for programs: in `details`, and beside `code` and `message`, where older clients look. */
  details?: Record<string, unknown>;
  /** What was achieved until then, beside `code` and `message` only: it may be large. */
  partial?: Record<string, unknown>;
}

/** The JSON body of a failed request. */
export interface ErrorEnvelope {
  readonly error: {
    readonly code: ErrorCode;
    readonly reason: string;
    readonly message: string;
    readonly retryable: boolean;
    readonly request_id?: string;
    readonly details?: Record<string, unknown>;
    readonly [fact: string]: unknown;
  };
}

/** A failure with a code of the API. `message` is written for the client, `cause` for the log. */
export class AppError extends Error {
  readonly code: ErrorCode;
  /** A name of REASONS, or the code where it says it all. */
  readonly reason: Reason | ErrorCode;
  /** For `Retry-After`; undefined where trying again is no use, or nobody knows when it is. */
  readonly retryAfterSec: number | undefined;
  readonly #isRetryable: boolean;
  readonly #field: string | undefined;
  readonly #details: Record<string, unknown>;
  readonly #partial: Record<string, unknown>;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = "AppError";
    this.code = code;
    this.reason = options.reason ?? USUAL_REASONS[code] ?? code;
    this.#isRetryable = options.isRetryable ?? RETRYABLE.has(code);
    this.retryAfterSec = this.#isRetryable
      ? (options.retryAfterSec ?? RETRY_AFTER_SEC[code])
      : undefined;
    this.#field = code === "invalid_request" ? FIELD.exec(message)?.[1] : undefined;
    this.#details = options.details ?? {};
    this.#partial = options.partial ?? {};
  }

  get status(): number {
    return HTTP_STATUS[this.code];
  }

  /** What the client gets; `requestId` names the request in answer and log. */
  toBody(requestId?: string): ErrorEnvelope {
    const { code, reason, message } = this;
    const field = this.#field === undefined ? {} : { field: this.#field };
    const details = { ...field, ...this.#details };
    return {
      error: {
        ...this.#partial,
        ...this.#details,
        ...{ code, reason, message, retryable: this.#isRetryable },
        ...(requestId === undefined ? {} : { request_id: requestId }),
        ...(Object.keys(details).length > 0 ? { details } : {}),
      },
    };
  }
}
