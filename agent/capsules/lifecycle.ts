// Who may pause, resume or copy a capsule when. One operation at a time: the same request joins it, another
// one is refused or waits for its end.

import { AgentError } from "../errors.ts";
import { isHeldByVmm, type PauseReason } from "../journal/pause-record.ts";
import { EXPIRY_RETRY_MS } from "../limits.ts";
import type { HostParts } from "../machine/host-parts.ts";
import type { Semaphore } from "../semaphore.ts";
import type { HeldGeneration } from "../snapshots/snapshots.ts";
import type { Capsule } from "./capsule.ts";
import { agentStopping, notRunning } from "./capsule-errors.ts";
import { Captures } from "./captures.ts";
import { Pauses } from "./pauses.ts";
import type { Decision } from "./recovery-plan.ts";
import { type ResumeRequest, Resumes } from "./resumes.ts";
import { Seals } from "./seals.ts";
import { Stalls } from "./stalls.ts";
import {
  type CapsuleState,
  type CapsuleStates,
  type CapsuleStatus,
  type Snapshotting,
  whenSettled,
} from "./states.ts";

export class Lifecycle {
  readonly #parts: HostParts;
  readonly #states: CapsuleStates;
  readonly seals: Seals;
  readonly pauses: Pauses;
  readonly resumes: Resumes;
  readonly stalls: Stalls;
  readonly #captures: Captures;
  #isClosing = false;

  constructor(parts: HostParts, options: { states: CapsuleStates; boots: Semaphore }) {
    const { states, boots } = options;
    this.#parts = parts;
    this.#states = states;
    this.seals = new Seals(parts, states);
    const { seals } = this;
    this.pauses = new Pauses(parts, { states, seals });
    this.stalls = new Stalls(parts, this.pauses);
    this.resumes = new Resumes(parts, { states, seals, boots });
    this.#captures = new Captures(parts, { states, seals, pauses: this.pauses });
  }

  /** Refuses operations from now on. */
  refuse(): void {
    this.#isClosing = true;
  }

  /**
   * Answers once the guest is stopped; one that is paused already succeeds. Throws AgentError:
   * failed_precondition (not running), aborted (the operation has ended before, and the capsule went on),
   * unavailable (the guest does not freeze), internal.
   */
  async pause(
    capsule: Capsule,
    options: { reason: PauseReason; operationId: string },
  ): Promise<void> {
    let { state } = capsule;
    while (state.status === "snapshotting" || state.status === "pausing") {
      // What is joined may be the undoing of a pause that the end of an agent cut off.
      await (state.status === "pausing" ? state.operation.done : afterSnapshot(state));
      ({ state } = capsule);
    }
    if (state.status === "paused") return;
    if (state.status !== "running") throw notRunning(capsule);
    assertNotEnded(capsule, options.operationId);
    await this.pauses.pause(capsule, state, options);
  }

  /**
   * Answers once the guest runs and has its identity. Throws AgentError: failed_precondition (neither paused
   * nor ended, another resume, what was asked for is not there), aborted (as for a pause), unavailable (the disk
   * was asked for and its memory is not yet safe), and what a create throws; the capsule is what it was then.
   */
  async resume(capsule: Capsule, request: ResumeRequest): Promise<void> {
    let wait = this.#beforeResume(capsule, request);
    for (; wait !== null; wait = this.#beforeResume(capsule, request)) await wait;
    const { state } = capsule;
    if (state.status === "running") return;
    if (state.status === "resuming" && state.operation.id === request.operationId) {
      await state.operation.done;
      return;
    }
    const isEnded = state.status === "error" && !state.isDoomed;
    if (state.status !== "paused" && !isEnded) throw notRunning(capsule);
    if (this.#isClosing) throw agentStopping();
    assertNotEnded(capsule, request.operationId);
    await this.resumes.resume(capsule, state, request);
  }

  /** What is to be waited for; null: nothing. Not as an operation, so that a destroy need not cut it off. */
  #beforeResume(capsule: Capsule, { from }: ResumeRequest): Promise<unknown> | null {
    const { state, sealing } = capsule;
    if (state.status === "snapshotting") return afterSnapshot(state);
    if (state.status !== "paused") return null;
    // The pause is done for good, or its VMM is lost: either way its last word is awaited.
    if (sealing?.isFreeing) return this.seals.awaitFreed(capsule);
    // Whoever wants the disk may want the memory later.
    const isToBeKept = from === "disk" && isHeldByVmm(state.pause);
    return isToBeKept ? this.seals.awaitDurable(capsule) : null;
  }

  /**
   * A generation of the capsule as it is now, held for the caller to dispose. A running one stands still
   * until it is made; a paused one must be durable, which is waited for. Throws AgentError:
   * failed_precondition (neither; no whole generation), unavailable (not durable in time),
   * resource_exhausted, internal; the capsule goes on as it was.
   */
  async capture(capsule: Capsule, operationId: string): Promise<HeldGeneration> {
    for (;;) {
      const held = await whenSettled(capsule, (state) =>
        this.#capture(capsule, state, operationId),
      );
      if (held !== null) return held;
      // Not as an operation, so that a resume need not wait for it.
      await this.seals.awaitDurable(capsule);
    }
  }

  /** Null: it is paused, and not durable yet. */
  async #capture(
    capsule: Capsule,
    state: CapsuleState,
    operationId: string,
  ): Promise<HeldGeneration | null> {
    if (this.#isClosing) throw agentStopping();
    if (state.status === "running") {
      return await this.#captures.capture(capsule, state, operationId);
    }
    if (state.status !== "paused") throw notRunning(capsule);
    return isHeldByVmm(state.pause) ? null : await this.#captures.hold(capsule, state);
  }

  /**
   * Pauses the capsule at the end of its timeout; a failure is logged and tried again later. Only what runs
   * now: after whatever it is in the middle of it may have become active.
   */
  async expire(capsule: Capsule): Promise<void> {
    const { state } = capsule;
    const nowMs = performance.now();
    if (this.#isClosing || state.status !== "running" || nowMs < capsule.expiryRetryAtMs) return;
    capsule.expiryRetryAtMs = nowMs + EXPIRY_RETRY_MS;
    try {
      await this.pauses.pause(capsule, state, { reason: "ttl_expired", operationId: "" });
      capsule.expiryRetryAtMs = 0;
    } catch (error) {
      this.#parts.log.warn("capsule.expiry-failed", { capsule: capsule.spec.id, error });
    }
  }

  /** Pauses the capsule for good, whatever it is when nothing is under way. Throws if something of it still runs. */
  async pauseForGood(capsule: Capsule): Promise<void> {
    try {
      if (capsule.state.status === "running") {
        await this.pause(capsule, { reason: "requested", operationId: "" });
      }
      await this.seals.finish(capsule);
    } catch (error) {
      this.#parts.log.error("capsule.last-pause-failed", { capsule: capsule.spec.id, error });
    }
    const { state } = capsule;
    if (state.status === "paused" && state.pause.durableAtMs) return;
    // Its memory cannot be kept, but its disk is.
    await this.seals.free(capsule);
    if (state.status !== "running" && state.status !== "paused") return;
    const reason = "it could not be paused when the agent ended";
    const to = { status: "error", reason, isDoomed: false } as const;
    this.#states.concede(capsule, { from: state, to });
  }

  /** Carries out what was decided about a capsule that an earlier agent left; it goes on behind. */
  goOn(capsule: Capsule, decision: Decision): void {
    const { state } = capsule;
    switch (decision) {
      case "run on":
        if (state.status === "pausing" || state.status === "snapshotting") {
          void state.operation.run(() => this.pauses.runOn(capsule, state, cutOff(state.status)));
        }
        return;
      case "adopt":
        if (state.status === "snapshotting") {
          void state.operation.run(() => this.pauses.adopt(capsule, state));
        }
        return;
      case "finish resume":
        if (state.status === "resuming") {
          // It is logged, and paused again.
          state.operation.run(() => this.resumes.finishLive(capsule, state)).catch(() => {});
        }
        return;
      case "undo resume":
        if (state.status === "resuming") {
          this.#states.concede(capsule, { from: state, to: state.before });
        }
        this.seals.start(capsule);
        return;
      case "seal":
        this.seals.start(capsule);
        return;
      case "fail": {
        const reason = "its VMM ended while no agent ran";
        const to = { status: "error", reason, isDoomed: false } as const;
        this.#states.concede(capsule, { from: state, to });
        this.#parts.log.warn("recovery.died", { capsule: capsule.spec.id, reason });
        return;
      }
      default:
    }
  }
}

/** A call that comes a second time, late, is not to undo what was done since. */
function assertNotEnded({ endedOperations }: Capsule, operationId: string): void {
  if (operationId === "" || !endedOperations.includes(operationId)) return;
  throw new AgentError("aborted", "operation_id: has ended already", { subject: "request" });
}

function cutOff(status: CapsuleStatus): AgentError {
  const message = `The agent was stopped while the capsule was ${status}`;
  return new AgentError("aborted", message, { subject: "capsule" });
}

/** A snapshot leaves the capsule as it was. */
function afterSnapshot({ operation }: Snapshotting): Promise<unknown> {
  return operation.done.catch(() => {});
}
