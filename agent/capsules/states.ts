// The life of a capsule on its host: the table of legal moves, and the only place that makes one.
//
// A state that leads to another names the operation that is at it. Each move says which state it leaves, by
// identity: what was taken out of its state meanwhile, by a destroy, can move nothing any more.

import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { CapsuleRow, Journal, StateRecord } from "../journal/journal.ts";
import { isHeldByVmm, type PauseRecord } from "../journal/pause-record.ts";
import { ENDED_OPERATIONS_KEPT } from "../limits.ts";
import type { Log } from "../log.ts";

/** What leads a capsule from one state to another. */
export class Operation {
  /** UUID; empty if the agent does it by itself. */
  readonly id: string;
  /** Cuts it off, with the reason that its callers get. */
  readonly abort = new AbortController();
  readonly #ended = Promise.withResolvers<unknown>();

  constructor(id: string) {
    this.id = id;
    // Whoever runs it hears of its failure; often nobody else waits.
    this.#ended.promise.catch(() => {});
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  /** Settles as its work does, whose last move is made then. */
  get done(): Promise<unknown> {
    return this.#ended.promise;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    const result = work();
    result.then(this.#ended.resolve, this.#ended.reject);
    return await result;
  }
}

/** memory: of its last pause. previous_memory: of an older one. disk: booted. */
const RESUMED_FROM = ["memory", "previous_memory", "disk"] as const;
export type ResumedFrom = (typeof RESUMED_FROM)[number];

export interface Starting {
  readonly status: "starting";
  readonly operation: Operation;
}

export interface Running {
  readonly status: "running";
  /** What made it run; null: its create. */
  readonly resumed: { readonly operationId: string; readonly from: ResumedFrom } | null;
}

/** It runs, and stands still for a moment of it. */
export interface Snapshotting {
  readonly status: "snapshotting";
  readonly operation: Operation;
  readonly before: Running;
}

export interface Pausing {
  readonly status: "pausing";
  readonly operation: Operation;
  readonly before: Running;
  readonly pause: PauseRecord;
}

export interface Paused {
  readonly status: "paused";
  readonly pause: PauseRecord;
}

export interface Resuming {
  readonly status: "resuming";
  readonly operation: Operation;
  /** What it is again if it cannot be resumed. */
  readonly before: Paused | Failed;
}

export interface Stopping {
  readonly status: "stopping";
  readonly operation: Operation;
}

/** Its VMM ended by itself, or it could not be removed. */
export interface Failed {
  readonly status: "error";
  readonly reason: string;
  /** Its destroy was begun, or its create failed: nothing may bring it back. */
  readonly isDoomed: boolean;
}

export type CapsuleState =
  | Starting
  | Running
  | Snapshotting
  | Pausing
  | Paused
  | Resuming
  | Stopping
  | Failed;
export type CapsuleStatus = CapsuleState["status"];

/** Of a capsule, what its moves change and write down. */
export interface Living {
  /** A resume may change timeout, user, environment and token. */
  spec: CapsuleSpec;
  /** Read-only for all others. */
  readonly state: CapsuleState;
  /** What it has on the host so far. */
  progress: { readonly envdVersion: string };
  /** Ids of the pauses and resumes that have succeeded here, the last ones. */
  readonly endedOperations: readonly string[];
}

/** A capsule that is gone leaves from starting, when its create failed, or from stopping. */
const MOVES: Readonly<Record<CapsuleStatus, readonly CapsuleStatus[]>> = {
  starting: ["running", "stopping", "error"],
  running: ["snapshotting", "pausing", "stopping", "error"],
  snapshotting: ["running", "stopping", "error"],
  pausing: ["paused", "running", "stopping", "error"],
  // To itself: it became durable, or was lost.
  paused: ["paused", "resuming", "stopping", "error"],
  // To itself: what it was before is not as whole any more.
  resuming: ["resuming", "running", "paused", "stopping", "error"],
  error: ["resuming", "stopping"],
  stopping: ["error"],
};

export class CapsuleStates {
  readonly #journal: Journal;
  readonly #log: Log;
  /** Capsules that the journal has in an earlier state. */
  readonly #behind = new Set<Living>();

  constructor(journal: Journal, log: Log) {
    this.#journal = journal;
    this.#log = log;
  }

  /**
   * Writes the move down and makes it; the capsule is what the spec says from then on. Throws what the
   * journal throws: the capsule is in the state that it was in.
   */
  move<T extends CapsuleState>(
    capsule: Living,
    { from, to, spec = capsule.spec }: { from: CapsuleState; to: T; spec?: CapsuleSpec },
  ): T {
    checkMove(capsule, from, to);
    const ended = withEnded(capsule.endedOperations, from, to);
    if (spec !== capsule.spec || !isAlike(from, to))
      this.#write(capsule, { spec, state: to, ended });
    assign(capsule, to, ended);
    capsule.spec = spec;
    return to;
  }

  /**
   * For what has happened, whether it can be written down or not. A journal that could not take it has the
   * capsule in a state from which the next agent comes to the same, and gets it with the next `catchUp`.
   */
  concede<T extends CapsuleState>(capsule: Living, { from, to }: { from: CapsuleState; to: T }): T {
    checkMove(capsule, from, to);
    const ended = withEnded(capsule.endedOperations, from, to);
    assign(capsule, to, ended);
    if (isAlike(from, to)) return to;
    try {
      this.#write(capsule, { spec: capsule.spec, state: to, ended });
    } catch (error) {
      this.#behind.add(capsule);
      this.#log.error("capsule.unjournalled", { capsule: capsule.spec.id, error });
    }
    return to;
  }

  /** Writes what the journal could not take before. Throws what it throws. */
  catchUp(): void {
    for (const capsule of this.#behind) {
      const { spec, state, endedOperations: ended } = capsule;
      this.#write(capsule, { spec, state, ended });
    }
  }

  /** The capsule is gone. */
  forget(capsule: Living): void {
    this.#behind.delete(capsule);
  }

  #write(
    capsule: Living,
    { spec, state, ended }: { spec: CapsuleSpec; state: CapsuleState; ended: readonly string[] },
  ): void {
    const { envdVersion } = capsule.progress;
    this.#journal.writeState(spec, { ...toRecord(state), envdVersion, endedOperations: ended });
    this.#behind.delete(capsule);
  }
}

/** The operation that the state names; null: it leads nowhere by itself. */
export function operationOf(state: CapsuleState): Operation | null {
  return "operation" in state ? state.operation : null;
}

/**
 * Whether the next agent would do the same with either: one that finds the guest stopped, or frozen, lets it run
 * on. So the journal is not told of the way there, nor of the way back.
 */
function isAlike(from: CapsuleState, to: CapsuleState): boolean {
  return isOnTheWay(from) && isOnTheWay(to);
}

function isOnTheWay(state: CapsuleState): boolean {
  return isUp(state) || state.status === "pausing";
}

/** Whether work can be done in it. */
export function isUp({ status }: CapsuleState): boolean {
  return status === "running" || status === "snapshotting";
}

/** Whether it has to start a VMM to be resumed. */
export function needsVmm(state: CapsuleState): boolean {
  return state.status === "error" || (state.status === "paused" && !isHeldByVmm(state.pause));
}

/** Whether all that is left to do with it is to remove it, which could not be done. */
export function isDoomed(state: CapsuleState): boolean {
  return state.status === "error" && state.isDoomed;
}

/** Waits until nothing leads the capsule anywhere. Others who waited may have begun something by the next line. */
export async function untilSettled(capsule: Living): Promise<void> {
  await whenSettled(capsule, () => {});
}

/** The same, and begins `work` at once: of several who wait each finds what those before it have begun. */
export async function whenSettled<T>(
  capsule: Living,
  work: (state: CapsuleState) => T,
): Promise<Awaited<T>> {
  let last: Operation | null = null;
  for (;;) {
    const { state } = capsule;
    const operation = operationOf(state);
    // One that ended and is still named: the capsule is gone.
    if (operation === null || operation === last) return await work(state);
    await operation.done.catch(() => {});
    last = operation;
  }
}

function checkMove({ spec: { id }, state }: Living, from: CapsuleState, to: CapsuleState): void {
  const what = `${id} cannot go from ${from.status} to ${to.status}`;
  if (state !== from) throw new Error(`unreachable: ${what}: it is ${state.status}`);
  if (!MOVES[from.status].includes(to.status)) throw new Error(`unreachable: ${what}`);
}

/** For others both are read-only. */
function assign(
  capsule: { state: CapsuleState; endedOperations: readonly string[] },
  state: CapsuleState,
  endedOperations: readonly string[],
): void {
  capsule.state = state;
  capsule.endedOperations = endedOperations;
}

/** With the pause or resume that has succeeded by the move: it is written down with it, for whoever repeats it late. */
function withEnded(
  ended: readonly string[],
  from: CapsuleState,
  to: CapsuleState,
): readonly string[] {
  const isSuccess =
    (from.status === "pausing" && to.status === "paused") ||
    (from.status === "resuming" && to.status === "running");
  const id = operationOf(from)?.id;
  return isSuccess && id ? [...ended, id].slice(-ENDED_OPERATIONS_KEPT) : ended;
}

function toRecord(state: CapsuleState): StateRecord {
  const record = { state: state.status, reason: "", operationId: "", resumedFrom: "", pause: null };
  switch (state.status) {
    case "running":
    case "snapshotting": {
      const { resumed } = state.status === "running" ? state : state.before;
      if (resumed === null) return record;
      return { ...record, operationId: resumed.operationId, resumedFrom: resumed.from };
    }
    case "pausing":
      return { ...record, operationId: state.operation.id, pause: state.pause };
    case "paused":
      return { ...record, pause: state.pause };
    case "resuming": {
      const { operation, before } = state;
      const was = before.status === "paused" ? { pause: before.pause } : { reason: before.reason };
      return { ...record, operationId: operation.id, ...was };
    }
    case "error":
      // One that is doomed is removed by the next agent.
      return { ...record, state: state.isDoomed ? "stopping" : "error", reason: state.reason };
    default:
      return record;
  }
}

/** The state that an agent left a capsule in; what it was in the middle of waits to be run. */
export function stateOf(row: CapsuleRow): CapsuleState {
  const { state: status, reason, pause } = row;
  const operation = new Operation(row.operationId);
  const failed: Failed = { status: "error", reason, isDoomed: false };
  const from = RESUMED_FROM.find((from) => from === row.resumedFrom);
  const resumed = from === undefined ? null : { operationId: row.operationId, from };
  const running: Running = { status: "running", resumed };
  switch (status) {
    case "starting":
      return { status, operation: new Operation(row.spec.operationId) };
    case "running":
      return running;
    case "snapshotting":
      return { status, operation: new Operation(""), before: running };
    case "pausing":
      return { status, operation, before: { ...running, resumed: null }, pause: some(row, pause) };
    case "paused":
      return { status, pause: some(row, pause) };
    case "resuming":
      return { status, operation, before: pause === null ? failed : { status: "paused", pause } };
    case "stopping":
      return { status, operation };
    case "error":
      return failed;
    default:
      return status satisfies never;
  }
}

function some({ spec, state }: CapsuleRow, pause: PauseRecord | null): PauseRecord {
  if (pause === null) throw new Error(`unreachable: ${spec.id} is ${state} without a pause`);
  return pause;
}
