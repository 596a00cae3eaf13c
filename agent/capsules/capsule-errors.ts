// What the callers of a capsule's operations learn when they cannot be done.

import { AgentError } from "../errors.ts";
import { IncompatibleError, SnapshotError } from "../snapshots/snapshot-error.ts";
import type { Capsule } from "./capsule.ts";
import { reasonOf } from "./capsule-view.ts";
import { createFailure } from "./create-failure.ts";

export function agentStopping(): AgentError {
  return new AgentError("unavailable", "The agent is stopping", { subject: "host" });
}

export function notRunning({ state }: Capsule): AgentError {
  const reason = reasonOf(state);
  const why = reason ? `: ${reason}` : "";
  return new AgentError("failed_precondition", `The capsule is ${state.status}${why}`, {
    subject: "capsule",
  });
}

export function capsuleFailed(what: string, cause: unknown): AgentError {
  return new AgentError("internal", `The capsule failed: ${what}`, { subject: "capsule", cause });
}

/** Its VMM did, while it was asked to do something. */
export function capsuleEnded(cause: unknown): AgentError {
  return new AgentError("failed_precondition", "The capsule ended", { subject: "capsule", cause });
}

/** What was thrown by a pause or resume, as its caller gets it. */
export function snapshotFailure(error: unknown): AgentError {
  if (!(error instanceof SnapshotError)) return createFailure(error);
  if (error.code === "no_space") {
    const message = "The host has no space left";
    return new AgentError("resource_exhausted", message, { subject: "host", cause: error });
  }
  if (isGenerationUnusable(error)) return noGeneration(error);
  return new AgentError("internal", "The host failed to save or bring back the capsule", {
    subject: "host",
    cause: error,
  });
}

/** Another generation may do. */
export function isGenerationUnusable(error: unknown): boolean {
  const codes: readonly string[] = ["damaged", "not_found", "incompatible"];
  return error instanceof SnapshotError && codes.includes(error.code);
}

export function noGeneration(cause?: unknown): AgentError {
  const message =
    cause instanceof IncompatibleError
      ? `This host cannot resume the capsule's memory, which was ${cause.difference}; its disk can be booted`
      : "No whole memory of the capsule is left; its disk can be booted";
  return new AgentError("failed_precondition", message, { subject: "generation", cause });
}
