// The errors that routes of capsules document, by what they need.

/** Of every guarded route. */
export const AUTH_ERRORS = ["unauthorized", "forbidden"] as const;
/** Of a route about one capsule. */
export const CAPSULE_ERRORS = [...AUTH_ERRORS, "invalid_request", "not_found"] as const;
/** Of a route that needs the capsule in some state, and its host to answer. */
export const CHANGE_ERRORS = [
  ...CAPSULE_ERRORS,
  "invalid_state",
  "agent_error",
  "host_unavailable",
] as const;
/** Of a route that has a host start something that is there already. */
export const RESTORE_ERRORS = [
  ...CHANGE_ERRORS,
  "concurrent_sandbox_limit",
  "conflict",
  "too_large",
  "no_hosts_available",
] as const;
/** Of a route that is about what happens in a running capsule. */
export const RUNNING_ERRORS = [...CHANGE_ERRORS, "rate_limited"] as const;
/** Of a route that takes room on the capsule's disk. */
export const WRITING_ERRORS = [...RUNNING_ERRORS, "insufficient_storage"] as const;
