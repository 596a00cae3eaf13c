// What the rules of snapshots need from the rest of the control plane.

import type { OperationDeps } from "../operations/deps.ts";

export interface SnapshotDeps extends OperationDeps {
  /** Work that nobody waits for; it never throws. */
  readonly inBackground: (work: Promise<unknown>) => void;
}
