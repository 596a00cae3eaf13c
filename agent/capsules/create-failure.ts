// What the control plane learns of a create that failed. Errors of the host's own parts carry paths and
// commands, which are for the log.

import { AgentError } from "../errors.ts";

/** AgentErrors pass unchanged; a lack that another host may not have is resource_exhausted. */
export function createFailure(error: unknown): AgentError {
  if (error instanceof AgentError) return error;
  const lack = lackOf(error);
  if (lack !== null) {
    return new AgentError("resource_exhausted", `The host has no ${lack} left`, {
      subject: "host",
      cause: error,
    });
  }
  return new AgentError("internal", "The host failed to make the capsule", {
    subject: "host",
    cause: error,
  });
}

function lackOf(error: unknown): string | null {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const code = "code" in cause ? cause.code : "";
    if (code === "no_slot") return "network slot";
    if (code === "ENOSPC" || code === "EDQUOT") return "space";
    if (code === "ENOMEM") return "memory";
  }
  return null;
}
