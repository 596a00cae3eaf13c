// The names of the states that a capsule can be in, and what they have in common.

/** As the database has them, in a CHECK too. */
export const CAPSULE_STATES = [
  "pending",
  "starting",
  "running",
  "pausing",
  "paused",
  "snapshotting",
  "resuming",
  "stopping",
  "stopped",
  "hibernated",
  "missing",
  "error",
] as const;

export type CapsuleState = (typeof CAPSULE_STATES)[number];

/** What snapshots are made of. They leave it as it was. */
export const SNAPSHOT_SOURCES = ["running", "paused"] as const;
export type SnapshotSource = (typeof SNAPSHOT_SOURCES)[number];

/** States in which an operation of some control plane is under way; each has a deadline. */
export const OPERATION_STATES = [
  "pending",
  "starting",
  "pausing",
  "snapshotting",
  "resuming",
  "stopping",
] as const;

/** States in which a host that answers has to have the capsule. */
export const LIVE_STATES = ["running", "missing"] as const;

/** States in which nothing of the capsule may be on a host. */
export const ENDED_STATES = ["stopped", "error"] as const;

/** States that hold memory, processors and disk of their host in full, `snapshotting` unless it was paused. */
export const HOLDING_STATES = [
  "pending",
  "starting",
  "running",
  "pausing",
  "snapshotting",
  "resuming",
  "stopping",
  "missing",
] as const;

/**
 * States that count as running where a team is told what it uses, `snapshotting` unless it was paused: the guest
 * has its memory and processors.
 */
export const USING_STATES = ["starting", "running", "pausing", "snapshotting", "resuming"] as const;

/** States of a capsule at rest: a share of its memory and disk is set aside for its return. */
export const PAUSED_STATES = ["paused"] as const;

/**
 * What the capsule is but for the snapshots that are made of it: whatever may be done to it then may be done
 * meanwhile, for its host lets it wait where it must.
 */
export function besidesSnapshots(capsule: {
  readonly status: CapsuleState;
  readonly snapshottedFrom: SnapshotSource | null;
}): CapsuleState {
  return capsule.snapshottedFrom ?? capsule.status;
}
