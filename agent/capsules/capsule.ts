// One capsule as the running agent knows it.

import type { BuildProgress } from "./build-capsule.ts";
import type { CapsuleSpec } from "./capsule-spec.ts";

/** error: its VMM ended by itself, or it could not be removed; `reason` says which. */
export type CapsuleStatus = "starting" | "running" | "stopping" | "error";

export interface Capsule {
  readonly spec: CapsuleSpec;
  readonly createdAt: Date;
  /** What it has on the host so far. */
  readonly progress: BuildProgress;
  /** Cuts its create off, with the reason that the create's callers get. */
  readonly abort: AbortController;
  status: CapsuleStatus;
  reason: string;
  /** Settles with the create, which runs at most once. */
  creating: Promise<void> | null;
  destroying: Promise<void> | null;
}

export function newCapsule(options: {
  spec: CapsuleSpec;
  status: CapsuleStatus;
  slot: number | null;
  envdVersion: string;
  createdAt: Date;
}): Capsule {
  const { spec, status, slot, envdVersion, createdAt } = options;
  return {
    spec,
    createdAt,
    progress: { slot, vmm: null, guest: null, envdVersion, timings: {} },
    abort: new AbortController(),
    status,
    reason: "",
    creating: null,
    destroying: null,
  };
}
