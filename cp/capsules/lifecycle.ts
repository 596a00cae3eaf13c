// The states of a capsule, the moves between them, and the names that REST clients see.

/** As the database has them, in a CHECK too. */
export const CAPSULE_STATES = [
  "pending",
  "starting",
  "running",
  "pausing",
  "paused",
  "resuming",
  "stopping",
  "stopped",
  "hibernated",
  "missing",
  "error",
] as const;

export type CapsuleState = (typeof CAPSULE_STATES)[number];

/**
 * Which states may follow which. Every state but the last may be destroyed; a host that falls
 * silent makes its capsules `missing` until it answers for them.
 */
export const MOVES: Readonly<Record<CapsuleState, readonly CapsuleState[]>> = {
  // The row exists and its place on a host is claimed; the host has not been asked.
  pending: ["starting", "error", "missing", "stopping"],
  // The host has been asked, and may or may not have begun.
  starting: ["running", "error", "missing", "stopping"],
  // Straight to paused: its host did it by itself.
  running: ["pausing", "paused", "stopped", "missing", "stopping"],
  // Back to running: the pause failed before its point of no return.
  pausing: ["paused", "running", "stopped", "missing", "stopping"],
  // Straight to running: a resume that counted as failed reached the host after all.
  paused: ["resuming", "running", "stopping"],
  // What was paused is never lost on record: a host that falls silent leaves it paused.
  resuming: ["running", "paused", "stopping"],
  // Promised to the caller: from here nothing leads back.
  stopping: ["stopped"],
  stopped: [],
  hibernated: ["stopping"],
  missing: ["running", "paused", "stopped", "stopping"],
  // Nothing of it should be on a host; destroying it makes sure.
  error: ["stopping"],
};

/** States in which an operation of some control plane is under way; each has a deadline. */
export const OPERATION_STATES = ["pending", "starting", "pausing", "resuming", "stopping"] as const;

/** States in which a host that answers has to have the capsule. */
export const LIVE_STATES = ["running", "missing"] as const;

/** States in which nothing of the capsule may be on a host. */
export const ENDED_STATES = ["stopped", "error"] as const;

/** States that hold memory, processors and disk of their host in full. */
export const HOLDING_STATES = [
  "pending",
  "starting",
  "running",
  "pausing",
  "resuming",
  "stopping",
  "missing",
] as const;

/** States of a capsule at rest: a share of its memory and disk is set aside for its return. */
export const PAUSED_STATES = ["paused"] as const;

export function isLegalMove(from: CapsuleState, to: CapsuleState): boolean {
  return MOVES[from].includes(to);
}

/** Clients of the first API know these and fail on any other. */
export const WIRE_STATUSES = [
  "pending",
  "starting",
  "running",
  "paused",
  "hibernated",
  "stopped",
  "missing",
  "error",
] as const;

export type WireStatus = (typeof WIRE_STATUSES)[number];

/** The name that REST answers give the state: where one unknown to clients ends or began. */
export function wireStatus(state: CapsuleState): WireStatus {
  switch (state) {
    case "pausing":
      return "running";
    case "resuming":
      return "starting";
    case "stopping":
      return "stopped";
    default:
      return state;
  }
}
