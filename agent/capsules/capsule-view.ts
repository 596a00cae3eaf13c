// What others than the capsules themselves see of one.

import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { PauseReason } from "../journal/pause-record.ts";
import type { Capsule } from "./capsule.ts";
import type { CapsuleState, CapsuleStatus, ResumedFrom } from "./states.ts";

/** While a snapshot is made of it, it runs. */
export type VisibleStatus = Exclude<CapsuleStatus, "snapshotting">;

export interface CapsuleView {
  readonly spec: CapsuleSpec;
  readonly status: VisibleStatus;
  readonly reason: string;
  /** Empty until the capsule has a network slot. */
  readonly hostIp: string;
  readonly envdVersion: string;
  readonly createdAt: Date;
  readonly lastActiveAt: Date;
  /** Of a paused one; null otherwise. */
  readonly pauseReason: PauseReason | null;
  /** Since when nothing of a paused one is lost with the host's memory; null not yet. */
  readonly durableAt: Date | null;
  /** Of one that runs; null: its create made it run. */
  readonly resumedFrom: ResumedFrom | null;
}

export function viewOf(
  capsule: Capsule,
  known: Pick<CapsuleView, "hostIp" | "lastActiveAt">,
): CapsuleView {
  const { spec, state, createdAt, progress } = capsule;
  const pause = pauseOf(state);
  return {
    ...{ spec, createdAt, envdVersion: progress.envdVersion, ...known },
    status: state.status === "snapshotting" ? "running" : state.status,
    reason: reasonOf(state),
    pauseReason: pause?.reason ?? null,
    durableAt: pause?.durableAtMs ? new Date(pause.durableAtMs) : null,
    resumedFrom: runningOf(state)?.resumed?.from ?? null,
  };
}

/** Why it is not as its owner left it; else empty. */
export function reasonOf(state: CapsuleState): string {
  if (state.status === "error") return state.reason;
  if (state.status === "resuming") return reasonOf(state.before);
  if (state.status === "paused" && state.pause.isLost) {
    return "its memory was lost before it was durable";
  }
  return "";
}

function runningOf(state: CapsuleState) {
  if (state.status === "snapshotting") return state.before;
  return state.status === "running" ? state : null;
}

function pauseOf(state: CapsuleState) {
  if (state.status === "resuming") return pauseOf(state.before);
  return "pause" in state ? state.pause : null;
}
