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
  memory_limit: 402,
  usage_unavailable: 402,
  vcpu_limit: 402,
  account_deactivated: 403,
  account_disabled: 403,
  account_not_activated: 403,
  forbidden: 403,
  no_team: 403,
  not_found: 404,
  provider_not_found: 404,
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
  build_error: 500,
  internal_error: 500,
  signup_hook_failed: 500,
  not_implemented: 501,
  agent_error: 502,
  host_unavailable: 503,
  no_hosts_available: 503,
  service_unavailable: 503,
  exec_timeout: 504,
} as const;

export type ErrorCode = keyof typeof HTTP_STATUS;

/** The code that a program wrote down, maybe another version; `internal_error` when it is none. */
export function toErrorCode(text: string): ErrorCode {
  const isCode = (code: string): code is ErrorCode => Object.hasOwn(HTTP_STATUS, code);
  return isCode(text) ? text : "internal_error";
}

export interface AppErrorOptions {
  /** What went wrong underneath: for the log, never for the client. */
  cause?: unknown;
  /** Fields that go beside `code` and `message` inside the client's `error` object. */
  details?: Record<string, unknown>;
}

/** A failure with a code of the API. `message` is written for the client, `cause` for the log. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly details: Record<string, unknown>;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = "AppError";
    this.code = code;
    this.details = options.details ?? {};
  }

  get status(): number {
    return HTTP_STATUS[this.code];
  }

  /** The JSON body that the client gets. */
  toBody(): { error: { code: ErrorCode; message: string; [detail: string]: unknown } } {
    return { error: { ...this.details, code: this.code, message: this.message } };
  }
}
