// What others than the capsules themselves see of one.

import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { PauseReason } from "../journal/pause-record.ts";
import type { Capsule, CapsuleStatus } from "./capsule.ts";

export interface CapsuleView {
  readonly spec: CapsuleSpec;
  readonly status: CapsuleStatus;
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
}

export function viewOf(
  capsule: Capsule,
  known: Pick<CapsuleView, "hostIp" | "lastActiveAt">,
): CapsuleView {
  const { spec, status, reason, createdAt, progress, pause } = capsule;
  const { envdVersion } = progress;
  return {
    ...{ spec, status, reason, envdVersion, createdAt, ...known },
    pauseReason: pause?.reason ?? null,
    durableAt: pause?.durableAtMs ? new Date(pause.durableAtMs) : null,
  };
}
