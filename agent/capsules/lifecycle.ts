// Who may pause or resume a capsule when, and what the agent finishes after the end of an earlier one.
// One transition at a time: the same request joins it, another one is refused.

import { AgentError } from "../errors.ts";
import { isEnded, type PauseReason } from "../journal/pause-record.ts";
import { EXPIRY_RETRY_MS } from "../limits.ts";
import type { HostParts } from "../machine/host-parts.ts";
import type { Semaphore } from "../semaphore.ts";
import type { HeldGeneration } from "../snapshots/snapshots.ts";
import type { Capsule, Transition } from "./capsule.ts";
import { agentStopping, notRunning } from "./capsule-errors.ts";
import { Pauses } from "./pauses.ts";
import { type ResumedFrom, type ResumeRequest, Resumes } from "./resumes.ts";

/** What the journal says of a capsule that an agent left in between. */
export type Unfinished = "running" | "pausing" | "paused" | "resuming";

export class Lifecycle {
  readonly #parts: HostParts;
  readonly #pauses: Pauses;
  readonly #resumes: Resumes;
  /** When a pause at the end of a timeout may be tried again. */
  readonly #retryAtMs = new Map<string, number>();
  #isClosing = false;

  constructor(parts: HostParts, options: { boots: Semaphore }) {
    this.#parts = parts;
    this.#pauses = new Pauses(parts);
    this.#resumes = new Resumes(parts, { ...options, pauses: this.#pauses });
  }

  /** Refuses transitions from now on. */
  refuse(): void {
    this.#isClosing = true;
  }

  /**
   * Answers once the guest is stopped; one that is paused already succeeds. Throws AgentError:
   * failed_precondition (not running), unavailable (the guest does not freeze), internal.
   */
  async pause(
    capsule: Capsule,
    options: { reason: PauseReason; operationId: string },
  ): Promise<void> {
    await this.#afterCapture(capsule);
    // What is joined may be the undoing of a pause that the end of an agent cut off.
    if (capsule.status === "pausing") await this.#join(capsule);
    if (capsule.status === "paused") return;
    if (capsule.status !== "running") throw notRunning(capsule);
    const { operationId } = options;
    await this.#begin(capsule, { kind: "pause", operationId }, () =>
      this.#pauses.pause(capsule, options),
    );
  }

  /**
   * Answers once the guest runs and has its identity; null if it ran already. Throws AgentError:
   * failed_precondition (neither paused nor ended, another resume, no whole generation), and what a
   * create throws; the capsule is paused then.
   */
  async resume(capsule: Capsule, request: ResumeRequest): Promise<ResumedFrom | null> {
    await this.#afterCapture(capsule);
    if (capsule.status === "running") return null;
    if (capsule.transition !== null && capsule.status !== "pausing") {
      if (capsule.transition.operationId !== request.operationId) throw notRunning(capsule);
      await this.#join(capsule);
      return null;
    }
    const isEnded = capsule.status === "error" && !capsule.isDoomed;
    if (capsule.status !== "paused" && !isEnded) throw notRunning(capsule);
    if (this.#isClosing) throw agentStopping();
    const { operationId } = request;
    return await this.#begin(capsule, { kind: "resume", operationId }, () =>
      this.#resumes.resume(capsule, request),
    );
  }

  /**
   * A generation of the capsule as it is now, held for the caller to dispose. A running one stands still
   * until it is made; a paused one must be durable, which is waited for. Throws AgentError:
   * failed_precondition (neither; no whole generation), unavailable (not durable in time),
   * resource_exhausted, internal; the capsule goes on as it was.
   */
  async capture(capsule: Capsule, operationId: string): Promise<HeldGeneration> {
    for (;;) {
      while (capsule.transition) await capsule.transition.done.catch(() => {});
      if (capsule.status !== "paused" || capsule.pause?.durableAtMs) break;
      // Not as a transition, so that a resume need not wait for it.
      await this.#pauses.awaitDurable(capsule);
    }
    if (capsule.status !== "running" && capsule.status !== "paused") throw notRunning(capsule);
    if (this.#isClosing) throw agentStopping();
    return await this.#begin(capsule, { kind: "capture", operationId }, () =>
      this.#pauses.capture(capsule),
    );
  }

  /** Pauses the capsule at the end of its timeout; a failure is logged and tried again later. */
  async expire(capsule: Capsule): Promise<void> {
    const { id } = capsule.spec;
    const nowMs = performance.now();
    if (this.#isClosing || nowMs < (this.#retryAtMs.get(id) ?? 0)) return;
    this.#retryAtMs.set(id, nowMs + EXPIRY_RETRY_MS);
    try {
      await this.pause(capsule, { reason: "ttl_expired", operationId: "" });
      this.#retryAtMs.delete(id);
    } catch (error) {
      this.#parts.log.warn("capsule.expiry-failed", { capsule: id, error });
    }
  }

  /** Pauses the capsule for good, whatever state it is in. Throws if something of it still runs. */
  async rest(capsule: Capsule): Promise<void> {
    const { journal, log } = this.#parts;
    while (capsule.transition) await capsule.transition.done.catch(() => {});
    try {
      if (capsule.status === "running") {
        await this.pause(capsule, { reason: "requested", operationId: "" });
      }
      await this.#pauses.seal(capsule);
    } catch (error) {
      log.error("capsule.rest-failed", { capsule: capsule.spec.id, error });
    }
    if (capsule.pause?.durableAtMs) return;
    // Its memory cannot be kept, but its disk is.
    await this.#pauses.free(capsule);
    capsule.status = "error";
    capsule.reason = "it could not be paused when the agent ended";
    capsule.pause = null;
    journal.markFailed(capsule.spec.id, capsule.reason);
  }

  /** Goes on with a capsule that was paused when an agent ended, or half-way there or back. */
  finish(capsule: Capsule, state: Unfinished): void {
    const { pause, progress } = capsule;
    const isDurable = pause !== null && pause.durableAtMs !== null;
    if (state === "resuming" && isDurable) {
      if (isEnded(pause)) {
        this.#keepEnded(capsule);
        return;
      }
      this.#parts.journal.markPause(capsule.spec.id, "paused", pause);
    }
    if (state === "paused" || (state === "resuming" && isDurable)) {
      capsule.status = "paused";
      if (!isDurable && progress.vmm) this.#pauses.startSealing(capsule);
      else this.#clearUp(capsule);
      return;
    }
    if (progress.vmm === null) {
      capsule.status = "paused";
      this.#clearUp(capsule);
      return;
    }
    const kind = state === "resuming" ? "resume" : "pause";
    const operationId = pause?.operationId ?? "";
    void this.#begin(capsule, { kind, operationId }, () => this.#letRun(capsule, state)).catch(
      (error: unknown) => {
        this.#parts.log.error("recovery.failed", { capsule: capsule.spec.id, error });
      },
    );
  }

  /** The resume of one whose VMM had ended was cut off. */
  #keepEnded(capsule: Capsule): void {
    this.#parts.journal.markFailed(capsule.spec.id, capsule.reason);
    capsule.status = "error";
    this.#clearUp(capsule);
    capsule.pause = null;
  }

  async #letRun(capsule: Capsule, state: Unfinished) {
    if (state === "resuming") return await this.#resumes.finishLive(capsule);
    const interrupted = new AgentError("aborted", "The agent was stopped during the pause", {
      subject: "capsule",
    });
    await this.#pauses.runOn(capsule, interrupted);
  }

  /** It needs a slot and a VMM no more, or lost its VMM before its memory was durable. */
  #clearUp(capsule: Capsule): void {
    const work =
      capsule.pause?.durableAtMs === null
        ? () => this.#pauses.settleLost(capsule)
        : () => this.#pauses.free(capsule);
    const done = work().catch((error: unknown) => {
      this.#parts.log.error("recovery.failed", { capsule: capsule.spec.id, error });
    });
    const sealing = { abort: new AbortController(), isFreeing: true, done };
    capsule.sealing = sealing;
    void done.then(() => {
      if (capsule.sealing === sealing) capsule.sealing = null;
    });
  }

  async #begin<T>(
    capsule: Capsule,
    what: Pick<Transition, "kind" | "operationId">,
    run: () => Promise<T>,
  ): Promise<T> {
    const done = run().finally(() => {
      if (capsule.transition?.done === done) capsule.transition = null;
    });
    capsule.transition = { ...what, done };
    return await done;
  }

  async #afterCapture(capsule: Capsule): Promise<void> {
    while (capsule.transition?.kind === "capture") await capsule.transition.done.catch(() => {});
  }

  async #join(capsule: Capsule): Promise<void> {
    await capsule.transition?.done;
  }
}
