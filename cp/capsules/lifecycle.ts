// The moves between the states of a capsule.

import type { CapsuleState } from "../capsule-states.ts";

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
  running: ["snapshotting", "pausing", "paused", "stopped", "missing", "stopping"],
  // Back to running: the pause failed before its point of no return.
  pausing: ["paused", "running", "stopped", "missing", "stopping"],
  // Straight to running: a resume that counted as failed reached the host after all.
  paused: ["snapshotting", "resuming", "running", "stopping"],
  // Back to what it was when the last of its snapshots is over; whoever pauses or resumes it meanwhile
  // is not kept from it.
  snapshotting: ["running", "paused", "pausing", "resuming", "missing", "stopping"],
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

export function isLegalMove(from: CapsuleState, to: CapsuleState): boolean {
  return MOVES[from].includes(to);
}

/** memory: of the last pause that is whole. disk: it boots. */
export const RESUME_SOURCES = ["memory", "disk"] as const;
export type ResumeSource = (typeof RESUME_SOURCES)[number];
