// One capsule as the running agent knows it.

import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { PauseRecord } from "../journal/pause-record.ts";
import type { BuildProgress } from "../machine/build-capsule.ts";
import { newProgress } from "../machine/build-capsule.ts";

/** error: its VMM ended by itself, or it could not be removed; `reason` says which. */
export type CapsuleStatus =
  | "starting"
  | "running"
  | "pausing"
  | "paused"
  | "resuming"
  | "stopping"
  | "error";

/** A pause, a resume, or the making of a generation, under way. */
export interface Transition {
  readonly kind: "pause" | "resume" | "capture";
  readonly operationId: string;
  /** Settles with it. */
  readonly done: Promise<unknown>;
}

/** The work that makes a pause durable, and then frees what the capsule had on the host. */
export interface Sealing {
  /** Once aborted it ends without touching the VMM again. */
  readonly abort: AbortController;
  /** It is sealed: the VMM ends and cannot be resumed any more. */
  isFreeing: boolean;
  /** Never rejects. */
  done: Promise<void>;
}

export interface Capsule {
  /** A resume may change timeout, user, environment and token. */
  spec: CapsuleSpec;
  readonly createdAt: Date;
  /** What it has on the host so far. */
  progress: BuildProgress;
  /** Cuts its create or resume off, with the reason that the callers get. */
  abort: AbortController;
  status: CapsuleStatus;
  reason: string;
  /** Of one that is pausing, paused or resuming. */
  pause: PauseRecord | null;
  /** Settles with the create, which runs at most once. */
  creating: Promise<void> | null;
  transition: Transition | null;
  sealing: Sealing | null;
  destroying: Promise<void> | null;
  /** Its destroy was begun, or its create failed: nothing may bring it back. */
  isDoomed: boolean;
}

export function newCapsule(options: {
  spec: CapsuleSpec;
  status: CapsuleStatus;
  slot: number | null;
  envdVersion: string;
  createdAt: Date;
  pause: PauseRecord | null;
}): Capsule {
  const { spec, status, slot, envdVersion, createdAt, pause } = options;
  return {
    spec,
    createdAt,
    progress: newProgress({ slot, envdVersion }),
    abort: new AbortController(),
    status,
    reason: "",
    pause,
    creating: null,
    transition: null,
    sealing: null,
    destroying: null,
    isDoomed: false,
  };
}
