// What a starting agent does about each capsule that it or the host still knows. Pure: rows and what
// lives go in, decisions come out.

import type { CapsuleRow } from "../journal/journal.ts";

/** What was found on the host. */
export interface ObservedHost {
  /** Capsules whose VMM lives. */
  readonly alive: ReadonlySet<string>;
  /** Capsules that have a run directory or a cgroup. */
  readonly traces: readonly string[];
  /** Capsules that have a root disk. */
  readonly disks: readonly string[];
}

export interface PausedRow extends CapsuleRow {
  readonly state: "pausing" | "paused" | "resuming";
}

export interface RecoveryPlan {
  /** Running, and so is its VMM: taken up again. */
  readonly adopt: readonly CapsuleRow[];
  /** Paused, or on the way there or back: looked after, whether its VMM lives or not. */
  readonly pauses: readonly PausedRow[];
  /** Its create was cut off: nothing of it may stay. */
  readonly undo: readonly CapsuleRow[];
  /** Its destroy was cut off: it goes on. */
  readonly finish: readonly CapsuleRow[];
  /** Its VMM ended while no agent ran, before a pause was answered: kept as an error until it is destroyed. */
  readonly died: readonly CapsuleRow[];
  /** Capsules with traces that the journal does not know: their VMMs belong to nobody. */
  readonly strangers: readonly string[];
  /** Disks of capsules that the journal does not know. They may be somebody's only copy, so they stay. */
  readonly unknownDisks: readonly string[];
}

export function planRecovery(rows: readonly CapsuleRow[], host: ObservedHost): RecoveryPlan {
  const known = new Set(rows.map((row) => row.spec.id));
  const isLost = ({ state, spec }: CapsuleRow) =>
    (state === "running" || state === "pausing") && !host.alive.has(spec.id);
  const inState = (...states: string[]) => rows.filter((row) => states.includes(row.state));
  return {
    adopt: inState("running").filter((row) => host.alive.has(row.spec.id)),
    pauses: rows.filter(isPaused).filter((row) => !isLost(row)),
    undo: inState("creating"),
    finish: inState("destroying"),
    died: [...inState("running", "pausing").filter(isLost), ...inState("failed")],
    strangers: host.traces.filter((id) => !known.has(id)),
    unknownDisks: host.disks.filter((id) => !known.has(id)),
  };
}

function isPaused(row: CapsuleRow): row is PausedRow {
  return row.state === "pausing" || row.state === "paused" || row.state === "resuming";
}
