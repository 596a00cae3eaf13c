// What a starting agent does about each capsule that it or the host still knows. Pure: a row and what lives
// go in, a decision comes out.

import type { CapsuleRow } from "../journal/journal.ts";
import { isHeldByVmm } from "../journal/pause-record.ts";

export type Decision =
  /** It runs: taken up again. */
  | "adopt"
  /** Its pause or snapshot was cut off: it is let run on. */
  | "run on"
  /** Paused: made durable if it is not, and what it has on the host freed. */
  | "seal"
  /** Its resume was cut off, and its VMM still has its memory: that is let run on. */
  | "finish resume"
  /** Its resume was cut off: it is what it was before. */
  | "undo resume"
  /** Its create was cut off: nothing of it may stay. */
  | "undo create"
  /** Its destroy was cut off: it goes on. */
  | "destroy"
  /** Its VMM ended while no agent ran, before a pause was answered: kept as an error. */
  | "fail"
  /** An error already. */
  | "keep";

export function decide(row: CapsuleRow, { isAlive }: { isAlive: boolean }): Decision {
  switch (row.state) {
    case "starting":
      return "undo create";
    case "running":
      return isAlive ? "adopt" : "fail";
    case "snapshotting":
    case "pausing":
      return isAlive ? "run on" : "fail";
    case "paused":
      return "seal";
    case "resuming":
      return isAlive && row.pause !== null && isHeldByVmm(row.pause)
        ? "finish resume"
        : "undo resume";
    case "stopping":
      return "destroy";
    case "error":
      return "keep";
    default:
      return row.state satisfies never;
  }
}

/** What was found on the host. */
export interface ObservedHost {
  /** Capsules that have a run directory or a cgroup. */
  readonly traces: readonly string[];
  /** Capsules that have a root disk. */
  readonly disks: readonly string[];
}

export interface Unknown {
  /** Capsules with traces that the journal does not know: their VMMs belong to nobody. */
  readonly strangers: readonly string[];
  /** Disks of capsules that the journal does not know. They may be somebody's only copy, so they stay. */
  readonly disks: readonly string[];
}

export function findUnknown(rows: readonly CapsuleRow[], host: ObservedHost): Unknown {
  const known = new Set(rows.map((row) => row.spec.id));
  const isUnknown = (id: string) => !known.has(id);
  return { strangers: host.traces.filter(isUnknown), disks: host.disks.filter(isUnknown) };
}
