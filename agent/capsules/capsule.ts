// One capsule as the running agent knows it.

import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { type BuildProgress, newProgress } from "../machine/build-capsule.ts";
import type { CapsuleState, Living } from "./states.ts";

/** The work that makes a pause durable, and then frees what the capsule had on the host. */
export interface Sealing {
  /** Once aborted it ends without touching the VMM again. */
  readonly abort: AbortController;
  /** It is sealed, or lost: the VMM ends and cannot be resumed any more. */
  isFreeing: boolean;
  /** Never rejects. */
  done: Promise<void>;
}

export interface Capsule extends Living {
  readonly createdAt: Date;
  progress: BuildProgress;
  /** Under way for one that was paused, whatever it is by now; sealing.ts begins and ends it. */
  sealing: Sealing | null;
  /** Of performance.now(): a pause at the end of its timeout is not tried before. */
  expiryRetryAtMs: number;
}

export function newCapsule(options: {
  spec: CapsuleSpec;
  state: CapsuleState;
  createdAt: Date;
  /** What an earlier agent left. */
  slot?: number | null;
  envdVersion?: string;
  endedOperations?: readonly string[];
}): Capsule {
  const { spec, state, createdAt } = options;
  const { slot = null, envdVersion = "", endedOperations = [] } = options;
  const progress = newProgress({ slot, envdVersion });
  const nothingYet = { sealing: null, expiryRetryAtMs: 0 };
  return { spec, createdAt, state, progress, endedOperations, ...nothingYet };
}
