// Resuming: the VMM that is still there runs on if its memory was not yet sealed; otherwise, also if that turns
// out to be lost, a new one starts from whatever is newest, or from what was asked for. The guest gets fresh
// entropy, the time, its names and token before its user's processes run. A failure leaves the capsule as it
// was, with the disk that it had.

import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { isHeldByVmm, type PauseRecord } from "../journal/pause-record.ts";
import {
  buildCapsule,
  type CapsuleSource,
  connectGuest,
  identityOf,
  newProgress,
} from "../machine/build-capsule.ts";
import { capsuleRunDir } from "../machine/capsule-paths.ts";
import { holdDevices, holdShares } from "../machine/hold-shares.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { liveCapsule } from "../machine/live-capsule.ts";
import { isMemoryDamaged } from "../memory/pager-verdict.ts";
import type { Semaphore } from "../semaphore.ts";
import { exitOf } from "../vmm/vmm.ts";
import type { Capsule } from "./capsule.ts";
import {
  capsuleEnded,
  isGenerationUnusable,
  noGeneration,
  snapshotFailure,
} from "./capsule-errors.ts";
import { type ResumeSource, resumeSources } from "./resume-sources.ts";
import type { Seals } from "./seals.ts";
import {
  type CapsuleStates,
  type Failed,
  Operation,
  type Paused,
  type ResumedFrom,
  type Resuming,
  type Running,
} from "./states.ts";

export interface ResumeRequest {
  readonly operationId: string;
  readonly from: ResumeSource;
  /** What the capsule's spec is to say from now on. */
  readonly settings: Pick<
    CapsuleSpec,
    "timeoutSec" | "defaultUser" | "defaultEnvs" | "accessToken" | "shares"
  >;
}

/** A resume under way. */
interface Attempt {
  readonly capsule: Capsule;
  readonly spec: CapsuleSpec;
  /** As it goes on, it may leave less to go back to. */
  state: Resuming;
}

export class Resumes {
  readonly #parts: HostParts;
  readonly #states: CapsuleStates;
  readonly #seals: Seals;
  readonly #boots: Semaphore;

  constructor(
    parts: HostParts,
    options: { states: CapsuleStates; seals: Seals; boots: Semaphore },
  ) {
    this.#parts = parts;
    this.#states = options.states;
    this.#seals = options.seals;
    this.#boots = options.boots;
  }

  /** Of a paused capsule, or of one whose VMM ended. Throws AgentError; it is what it was then. */
  async resume(
    capsule: Capsule,
    before: Paused | Failed,
    request: ResumeRequest,
  ): Promise<ResumedFrom> {
    const startedAt = performance.now();
    const operation = new Operation(request.operationId);
    const to: Resuming = { status: "resuming", operation, before };
    const state = this.#states.move(capsule, { from: before, to });
    const spec = { ...capsule.spec, ...request.settings };
    const attempt: Attempt = { capsule, spec, state };
    const isLive = isHeld(before);
    const from = await operation.run(async () => {
      if (isLive && (await this.#runOn(attempt))) return "memory";
      return await this.#restart(attempt, request.from);
    });
    this.#parts.log.info("capsule.resumed", {
      capsule: spec.id,
      from,
      isLive,
      ...capsule.progress.timings,
      total_ms: Math.round(performance.now() - startedAt),
    });
    this.#parts.failpoints.reach("resume.after-running");
    return from;
  }

  /**
   * Goes on with a resume whose VMM was stopped, or was about to run on, when an agent ended. Throws
   * AgentError; the capsule is paused then, also if its VMM is lost: what was asked for is not known any more.
   */
  async finishLive(capsule: Capsule, state: Resuming): Promise<void> {
    const attempt: Attempt = { capsule, spec: capsule.spec, state };
    if (await this.#runOn(attempt)) return;
    const error = capsuleEnded(null);
    await this.#undo(attempt, error);
    throw error;
  }

  /** False: its VMM is lost, and what it held with it. Throws AgentError; the capsule is paused again then. */
  async #runOn(attempt: Attempt): Promise<boolean> {
    const { capsule, spec, state } = attempt;
    const { failpoints, snapshots } = this.#parts;
    const { progress } = capsule;
    const { vmm } = progress;
    const { signal } = state.operation;
    const stopped = this.#seals.stop(capsule);
    try {
      failpoints.reach("resume.after-mark");
      await snapshots.resumeLive(liveCapsule(this.#parts, capsule.spec, vmm));
      failpoints.reach("live-resume.after-continue");
      await stopped;
      if (vmm === null || progress.slot === null) throw new Error(`unreachable: ${spec.id} rests`);
      const slot = this.#parts.network.slot(progress.slot);
      await holdShares(this.#parts, spec, { slot: slot.index, before: "unknown" });
      await holdDevices(this.#parts, spec, "unknown");
      progress.guest = connectGuest(this.#parts, spec, { slot, vmm });
      const renewal = { savedToken: capsule.spec.accessToken };
      await progress.guest.init(identityOf(spec), this.#parts.now(), renewal);
      failpoints.reach("resume.after-guest");
      signal.throwIfAborted();
      this.#moveToRunning(attempt, "memory");
    } catch (error) {
      signal.throwIfAborted();
      if (vmm === null || (await exitOf(vmm))) {
        await stopped;
        this.#noteLost(attempt, error);
        return false;
      }
      await this.#stopAgain(attempt, error);
      throw snapshotFailure(error);
    }
    return true;
  }

  /** Its guest may have run on before the end, so its disk is no generation's any more. */
  #noteLost(attempt: Attempt, error: unknown): void {
    const { capsule, state } = attempt;
    this.#parts.log.error("capsule.memory-lost", { capsule: capsule.spec.id, error });
    state.operation.signal.throwIfAborted();
    const to = withPause(state, { isLost: true, diskGeneration: null });
    attempt.state = this.#states.concede(capsule, { from: state, to });
  }

  /** A guest that ran on but did not answer goes back to where it was. */
  async #stopAgain({ capsule, state }: Attempt, error: unknown): Promise<void> {
    const { snapshots, log, vmm } = this.#parts;
    const { spec, progress } = capsule;
    const { before } = state;
    log.warn("capsule.resume-failed", { capsule: spec.id, error });
    progress.guest?.close("paused");
    if (before.status !== "paused") throw new Error(`unreachable: ${spec.id} was not paused`);
    const live = liveCapsule(this.#parts, spec, progress.vmm);
    const { generation } = await snapshots.pause(live).catch(async (cause: unknown) => {
      // Sealing saves its state when it can, or finds that its VMM is gone: till then it stands still.
      log.error("capsule.stuck", { capsule: spec.id, error: cause });
      await vmm.pause(live.runDir).catch(() => {});
      return before.pause;
    });
    if (capsule.state !== state) return;
    const to: Paused = { status: "paused", pause: { ...before.pause, generation } };
    this.#states.concede(capsule, { from: state, to });
    this.#seals.start(capsule);
  }

  async #restart(attempt: Attempt, from: ResumeSource): Promise<ResumedFrom> {
    const { failpoints } = this.#parts;
    const { capsule, spec } = attempt;
    const { signal } = attempt.state.operation;
    const pause = pauseOf(attempt);
    let source: CapsuleSource;
    try {
      failpoints.reach("resume.after-mark");
      const isDoubted = await isMemoryDamaged(capsuleRunDir(this.#parts.runDir, spec.id));
      await this.#seals.stop(capsule);
      await this.#seals.free(capsule);
      await this.#keepLeftOver(spec.id);
      using _permit = await this.#boots.acquire(signal, spec.teamId);
      const sources = resumeSources(this.#parts, capsule.spec, { from, pause });
      source = await this.#start(attempt, { sources, isDoubted });
      // Nothing is awaited from here on: a destroy comes before this line or finds it running.
      signal.throwIfAborted();
      this.#moveToRunning(attempt, resumedFromOf(source, pause));
    } catch (error) {
      const failure = snapshotFailure(signal.aborted ? signal.reason : error);
      await this.#undo(attempt, error);
      throw failure;
    }
    failpoints.reach("resume.after-move");
    await this.#keepReplaced(spec.id, source);
    return resumedFromOf(source, pause);
  }

  async #start(
    attempt: Attempt,
    { sources, isDoubted }: { sources: AsyncIterable<CapsuleSource>; isDoubted: boolean },
  ): Promise<CapsuleSource> {
    const { log, snapshots } = this.#parts;
    const { capsule, spec } = attempt;
    const { operation } = attempt.state;
    for await (const source of sources) {
      // Once the guest runs, its disk is no generation's any more.
      this.#note(attempt, { diskGeneration: null });
      capsule.progress = newProgress(capsule.progress);
      const { progress } = capsule;
      try {
        const { signal } = operation;
        // What was found when a guest wanted it is found again only by reading all.
        if (isDoubted && source.kind === "memory") await snapshots.prepareMap(source.generation);
        await buildCapsule(this.#parts, spec, { verb: "resume", source, progress, signal });
        return source;
      } catch (error) {
        if (!isGenerationUnusable(error)) throw error;
        log.error("capsule.refused", { capsule: spec.id, error });
        await this.#seals.free(capsule, "put back");
      }
    }
    throw noGeneration();
  }

  /** What is not as it was before the resume any more. */
  #note(attempt: Attempt, change: Partial<Paused["pause"]>): void {
    const { capsule, state } = attempt;
    if (state.before.status !== "paused") return;
    state.operation.signal.throwIfAborted();
    attempt.state = this.#states.move(capsule, { from: state, to: withPause(state, change) });
  }

  /** A disk in whose place an older one runs is the newer of them. */
  async #keepReplaced(id: string, source: CapsuleSource): Promise<void> {
    if (source.kind !== "memory" || source.isDiskKept) return;
    const { disks, log } = this.#parts;
    try {
      await disks.setAside(id, source.generation.manifest.generation);
    } catch (error) {
      // The next resume or agent does it.
      log.error("capsule.disk-not-aside", { capsule: id, error });
    }
  }

  /** A replaced disk that could neither be set aside nor put back: the next replacement would lose one. */
  async #keepLeftOver(id: string): Promise<void> {
    const { disks, snapshots } = this.#parts;
    const [newest] = await snapshots.listOf(id);
    await disks.setAside(id, newest?.number ?? 0);
  }

  async #undo({ capsule, state }: Attempt, error: unknown): Promise<void> {
    const { spec, progress } = capsule;
    const { disks, log } = this.#parts;
    log.warn("capsule.resume-failed", { capsule: spec.id, error, ...progress.timings });
    // A destroy removes what there is.
    if (capsule.state !== state) return;
    const isFreed = await this.#attempt(spec.id, () => this.#seals.free(capsule, "put back"));
    // The next resume would take the older disk for the capsule's own.
    if (!isFreed) await this.#attempt(spec.id, () => disks.putBack(spec.id));
    if (capsule.state !== state) return;
    this.#states.concede(capsule, { from: state, to: state.before });
    // It would keep its slot for as long as it rests.
    if (!isFreed) this.#seals.start(capsule);
  }

  /** Whether it could be done. */
  async #attempt(id: string, step: () => Promise<void>): Promise<boolean> {
    try {
      await step();
      return true;
    } catch (error) {
      this.#parts.log.error("capsule.stuck", { capsule: id, error });
      return false;
    }
  }

  #moveToRunning({ capsule, spec, state }: Attempt, from: ResumedFrom): void {
    const resumed = { operationId: state.operation.id, from };
    const to: Running = { status: "running", resumed };
    this.#states.move(capsule, { from: state, to, spec });
  }
}

/** Its memory is with its VMM and nowhere else. */
function isHeld(state: Paused | Failed): state is Paused {
  return state.status === "paused" && isHeldByVmm(state.pause);
}

function withPause(state: Resuming, change: Partial<PauseRecord>): Resuming {
  const { before } = state;
  if (before.status !== "paused") return state;
  return { ...state, before: { ...before, pause: { ...before.pause, ...change } } };
}

/** Null: the capsule was not paused. */
function pauseOf({ state: { before } }: Attempt): PauseRecord | null {
  return before.status === "paused" ? before.pause : null;
}

function resumedFromOf(source: CapsuleSource, pause: PauseRecord | null): ResumedFrom {
  if (source.kind !== "memory") return "disk";
  const isLast = pause?.durableAtMs && source.generation.manifest.generation === pause.generation;
  return isLast ? "memory" : "previous_memory";
}
