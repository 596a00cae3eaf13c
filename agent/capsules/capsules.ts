// The capsules of this host: who they are, what state they are in, and one operation at a time on each.
//
// A capsule is claimed in the journal before anything is made of it and forgotten after nothing is left.
// A create belongs to nobody's request: it goes on when its caller goes away, and whoever asks again with
// the same operation id gets its result. A destroy wins over a create.

import { AgentError, unknownCapsule } from "../errors.ts";
import type { Guest } from "../guest/guest.ts";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { CapsuleRow } from "../journal/journal.ts";
import { BOOT_PERMIT_MS, BOOTS_QUEUED_MAX, OUTCOMES_KEPT_MS } from "../limits.ts";
import { assertMemory } from "../machine/available-memory.ts";
import { type CapsuleSource, connectGuest } from "../machine/build-capsule.ts";
import type { HostParts } from "../machine/host-parts.ts";
import type { RunningVmm } from "../metrics/capsule-metrics.ts";
import { Semaphore } from "../semaphore.ts";
import type { HeldGeneration } from "../snapshots/snapshots.ts";
import type { MemoryTemplates } from "../templates/memory-templates.ts";
import type { WarmSnapshots } from "../templates/warm-snapshots.ts";
import type { VmmProcess } from "../vmm/vmm.ts";
import { ActivityClock } from "./activity.ts";
import { type Capsule, newCapsule } from "./capsule.ts";
import { agentStopping, capsuleFailed, notRunning } from "./capsule-errors.ts";
import { type CapsuleView, viewOf } from "./capsule-view.ts";
import { type CreateOptions, createCapsule, StuckCreate } from "./create-capsule.ts";
import { Lifecycle } from "./lifecycle.ts";
import type { Decision } from "./recovery-plan.ts";
import { Removals } from "./removals.ts";
import type { ResumeRequest } from "./resumes.ts";
import { settleAll } from "./settle-all.ts";
import {
  type CapsuleState,
  CapsuleStates,
  isDoomed,
  isUp,
  needsVmm,
  Operation,
  operationOf,
  type Starting,
  stateOf,
  untilSettled,
} from "./states.ts";

/** The use of a running capsule; disposed at the end of the call. */
export interface CapsuleLease extends Disposable {
  readonly guest: Guest;
}

export class Capsules {
  readonly #parts: HostParts;
  readonly #capsules = new Map<string, Capsule>();
  readonly #activity: ActivityClock;
  /** A boot is bound by the CPU: more of them than cores make all of them late, and the last ones time out. */
  readonly #boots: Semaphore;
  readonly #removals: Removals;
  readonly #states: CapsuleStates;
  readonly #lifecycle: Lifecycle;
  readonly #starts: Omit<CreateOptions, "source" | "state">;
  #isClosing = false;

  constructor(
    parts: HostParts,
    options: { bootsAtOnceMax: number; warm: WarmSnapshots; templates: MemoryTemplates },
  ) {
    this.#parts = parts;
    this.#activity = new ActivityClock({ now: parts.now, monotonicMs: () => performance.now() });
    this.#boots = new Semaphore({
      atOnceMax: options.bootsAtOnceMax,
      queuedMax: BOOTS_QUEUED_MAX,
      refusal: "Too many capsules wait for their start",
      heldMsMax: BOOT_PERMIT_MS[parts.vmm.accel],
    });
    this.#states = new CapsuleStates(parts.journal, parts.log);
    const shared = { states: this.#states, boots: this.#boots };
    this.#starts = { ...shared, warm: options.warm, templates: options.templates };
    this.#lifecycle = new Lifecycle(parts, shared);
    const { seals } = this.#lifecycle;
    this.#removals = new Removals(parts, { states: this.#states, seals });
  }

  /**
   * Makes the capsule and answers once its guest is up; the same operation again joins the first. Throws
   * AgentError: already_exists (another operation has the id), resource_exhausted, aborted (destroyed
   * meanwhile), unavailable (the guest did not come up), not_found (no such template), internal. On
   * failure nothing is left on the host.
   */
  async create(spec: CapsuleSpec, source: CapsuleSource | null = null): Promise<CapsuleView> {
    const capsule = this.#capsules.get(spec.id) ?? this.#begin(spec, source);
    if (capsule.spec.operationId !== spec.operationId) {
      throw new AgentError("already_exists", "sandbox_id is taken by another create", {
        subject: "capsule",
      });
    }
    if (capsule.state.status === "starting") await capsule.state.operation.done;
    assertUp(capsule);
    return this.#view(capsule);
  }

  /**
   * Returns when nothing of the capsule is left on the host. Unknown ids succeed, and are never created
   * afterwards. Throws AgentError internal if a part cannot be removed; the next call tries again.
   */
  async destroy(id: string): Promise<void> {
    const capsule = this.#capsules.get(id);
    if (!capsule) {
      this.#parts.journal.finishDestroy(id, this.#parts.now());
      return;
    }
    const { state } = capsule;
    if (state.status === "stopping") {
      await state.operation.done;
      return;
    }
    const operation = new Operation("");
    const to = { status: "stopping", operation } as const;
    this.#states.concede(capsule, { from: state, to });
    const gone = `Capsule "${id}" was destroyed`;
    const reason = new AgentError("aborted", gone, { subject: "capsule" });
    operationOf(state)?.abort.abort(reason);
    capsule.sealing?.abort.abort();
    await operation.run(() => this.#destroy(capsule, operationOf(state)));
  }

  /** Stops the capsule; its memory is made durable behind the answer. Throws as Lifecycle.pause. */
  async pause(id: string, operationId: string): Promise<void> {
    const capsule = this.#known(id);
    if (this.#isClosing) throw agentStopping();
    await this.#lifecycle.pause(capsule, { reason: "requested", operationId });
  }

  /** Brings a paused capsule back, or one whose VMM ended. Throws as Lifecycle.resume. */
  async resume(id: string, request: ResumeRequest): Promise<CapsuleView> {
    const capsule = this.#known(id);
    if (needsVmm(capsule.state)) assertMemory(capsule.spec.memoryMib);
    const watched = capsule.progress.vmm;
    await this.#lifecycle.resume(capsule, request);
    const { vmm } = capsule.progress;
    if (vmm && vmm !== watched) this.#watch(capsule, vmm);
    assertUp(capsule);
    this.#activity.start(id, this.#parts.now());
    return this.#view(capsule);
  }

  /** A generation of the capsule as it is now, to be disposed. Throws AgentError; it goes on as it was. */
  async capture(
    id: string,
    operationId: string,
  ): Promise<{ spec: CapsuleSpec; held: HeldGeneration }> {
    const capsule = this.#known(id);
    const held = await this.#lifecycle.capture(capsule, operationId);
    return { spec: capsule.spec, held };
  }

  /** Pauses what nobody has used for its timeout. */
  async expire(): Promise<void> {
    const expired = [...this.#capsules.values()].filter(({ spec: { id, timeoutSec }, state }) => {
      const isTimed = state.status === "running" && timeoutSec > 0;
      return isTimed && this.#activity.idleMs(id) >= timeoutSec * 1000;
    });
    await Promise.all(expired.map((capsule) => this.#lifecycle.expire(capsule)));
  }

  /** Lets run on what stood still since the disk was full. Never throws. */
  async endStalls(): Promise<void> {
    await this.#lifecycle.stalls.pass([...this.#capsules.values()]);
  }

  list(): CapsuleView[] {
    return [...this.#capsules.values()].map((capsule) => this.#view(capsule));
  }

  running(): (Omit<RunningVmm, "link"> & { slot: number | null })[] {
    return [...this.#capsules.values()].flatMap(({ spec, state, progress: { vmm, slot } }) =>
      isUp(state) && vmm ? [{ id: spec.id, vcpus: spec.vcpus, vmm, slot }] : [],
    );
  }

  /** Throws as `use` does; the capsule does not count as active for it. */
  assertRunning(id: string): void {
    this.#guestOf(id);
  }

  /**
   * The guest of a running capsule; the capsule counts as active until the lease is disposed. Throws
   * AgentError: not_found, failed_precondition (not running), resource_exhausted (it stands still, for want of
   * room on the host's disk).
   */
  use(id: string): CapsuleLease {
    const guest = this.#guestOf(id);
    this.#lifecycle.stalls.assertMoves(id);
    const hold = this.#activity.hold(id);
    return { guest, [Symbol.dispose]: () => hold[Symbol.dispose]() };
  }

  /** Goes on with a capsule as an earlier agent left it, as was decided; what takes time goes on behind. */
  takeUp(row: CapsuleRow, vmm: VmmProcess | null, decision: Decision): void {
    const was = stateOf(row);
    const isRunning = vmm !== null && was.status === "running";
    const state: CapsuleState = isRunning
      ? { status: "snapshotting", operation: new Operation(""), before: was }
      : was;
    const capsule = newCapsule({ ...row, state });
    this.#capsules.set(row.spec.id, capsule);
    this.#activity.start(row.spec.id, row.lastActiveAt);
    if (vmm !== null && row.slot !== null) {
      capsule.progress.vmm = vmm;
      const slot = this.#parts.network.slot(row.slot);
      capsule.progress.guest = connectGuest(this.#parts, row.spec, { slot, vmm });
      this.#watch(capsule, vmm);
    }
    // Their failures are logged where they happen, and stand in the list of capsules.
    if (state.status === "starting") this.#undo(capsule, state).catch(() => {});
    else if (state.status === "stopping") {
      state.operation.run(() => this.#destroy(capsule, null)).catch(() => {});
    } else this.#lifecycle.goOn(capsule, decision);
  }

  /**
   * Writes the activity clock to the journal, and what it could not take before, and drops outcomes too old to
   * matter. False: the journal could not take it, which is logged, and tried again with the next flush.
   */
  flush(): boolean {
    const { journal, log, now } = this.#parts;
    try {
      this.#states.catchUp();
      this.#activity.save((times) => journal.saveActivity(times));
      journal.forgetOutcomes(new Date(now().getTime() - OUTCOMES_KEPT_MS));
      return true;
    } catch (error) {
      log.error("flush.failed", { error });
      return false;
    }
  }

  /** Tries again to remove what a create or a destroy that failed has left. Never rejects. */
  async removeDoomed(): Promise<void> {
    const doomed = [...this.#capsules.values()].filter(({ state }) => isDoomed(state));
    await Promise.allSettled(doomed.map(({ spec }) => this.destroy(spec.id)));
  }

  /** Refuses creates from now on and begins to undo those under way. */
  refuseCreates(): void {
    this.#isClosing = true;
    this.#lifecycle.refuse();
    for (const { state } of this.#capsules.values()) {
      if (state.status === "starting") state.operation.abort.abort(agentStopping());
    }
  }

  /** Waits for what is being undone or destroyed, and leaves running capsules alone. */
  async close(): Promise<void> {
    this.refuseCreates();
    const capsules = [...this.#capsules.values()];
    await Promise.allSettled(capsules.map(({ state }) => operationOf(state)?.done));
    // Whatever is not sealed yet is sealed by the next agent.
    await Promise.all(capsules.map((capsule) => this.#lifecycle.seals.stop(capsule)));
    for (const { progress } of capsules) progress.guest?.close("left");
    this.flush();
  }

  /** Refuses creates from now on and destroys everything. AggregateError: some could not be. */
  async destroyAll(): Promise<void> {
    this.#isClosing = true;
    const ends = [...this.#capsules.keys()].map((id) => this.destroy(id));
    await settleAll(ends, "Some capsules are left");
  }

  /**
   * Pauses what runs and waits until it is durable; what cannot be paused keeps its disk only.
   * Nothing runs afterwards, or AggregateError.
   */
  async pauseAll(): Promise<void> {
    this.refuseCreates();
    const rests = [...this.#capsules.values()].map(async (capsule) => {
      await untilSettled(capsule);
      if (this.#capsules.get(capsule.spec.id) !== capsule) return;
      await this.#lifecycle.pauseForGood(capsule);
    });
    await settleAll(rests, "Some capsules still run");
  }

  #known(id: string): Capsule {
    const capsule = this.#capsules.get(id);
    if (!capsule) throw unknownCapsule(id);
    return capsule;
  }

  #guestOf(id: string): Guest {
    const capsule = this.#known(id);
    const { guest } = capsule.progress;
    if (!isUp(capsule.state) || guest === null) throw notRunning(capsule);
    return guest;
  }

  #begin(spec: CapsuleSpec, source: CapsuleSource | null): Capsule {
    const { journal, failpoints } = this.#parts;
    if (this.#isClosing) throw agentStopping();
    const outcome = journal.outcome(spec);
    if (outcome) {
      const subject = outcome.code === "not_found" ? "template" : "capsule";
      throw new AgentError(outcome.code, outcome.message, { subject });
    }
    assertMemory(spec.memoryMib);

    const createdAt = this.#parts.now();
    journal.claim(spec, createdAt);
    failpoints.reach("create.after-claim");
    const state: Starting = { status: "starting", operation: new Operation(spec.operationId) };
    const capsule = newCapsule({ spec, state, createdAt });
    this.#capsules.set(spec.id, capsule);
    this.#activity.start(spec.id, createdAt);
    void this.#settle(capsule, state, async () => {
      await createCapsule(this.#parts, capsule, { ...this.#starts, state, source });
      if (capsule.progress.vmm) this.#watch(capsule, capsule.progress.vmm);
    }).catch(() => {});
    return capsule;
  }

  /**
   * Undoes a create that was cut off by the end of an agent. Until that is done it is a create under
   * way, which then fails: whoever asks again joins it.
   */
  #undo(capsule: Capsule, state: Starting): Promise<void> {
    const outcome = new AgentError("aborted", "The agent was stopped during the create", {
      subject: "capsule",
    });
    return this.#settle(capsule, state, async () => {
      const { journal, now } = this.#parts;
      try {
        await this.#removals.remove(capsule, () =>
          journal.finishCreate(capsule.spec, outcome, now()),
        );
      } catch (cause) {
        throw new StuckCreate(outcome, cause);
      }
      throw outcome;
    });
  }

  /** Runs a create to its end. One that fails is forgotten, or kept as an error if something is left. */
  async #settle(capsule: Capsule, state: Starting, create: () => Promise<void>): Promise<void> {
    await state.operation.run(async () => {
      try {
        await create();
      } catch (error) {
        if (error instanceof AgentError) {
          this.#forget(capsule);
          throw error;
        }
        const reason = "its failed create could not be undone";
        this.#parts.log.error("capsule.stuck", { capsule: capsule.spec.id, error });
        const to = { status: "error", reason, isDoomed: true } as const;
        // A destroy that came meanwhile tries again.
        if (capsule.state === state) this.#states.concede(capsule, { from: state, to });
        throw error instanceof StuckCreate ? error.failure : capsuleFailed(reason, error);
      }
    });
  }

  async #destroy(capsule: Capsule, cutOff: Operation | null): Promise<void> {
    const isGone = () => this.#capsules.get(capsule.spec.id) !== capsule;
    await this.#removals.destroy(capsule, { cutOff, isGone });
    this.#forget(capsule);
  }

  /** Notes the end of a VMM that nobody asked to end. */
  #watch(capsule: Capsule, vmm: VmmProcess): void {
    void vmm.exited.then(async (exit) => {
      this.#parts.log.info("vmm.exited", { capsule: capsule.spec.id, ...exit });
      // What it is in the middle of may find out by itself, or have just missed it.
      await untilSettled(capsule);
      const { state, progress } = capsule;
      // One that is paused is looked after by its sealing.
      if (state.status !== "running" || progress.vmm !== vmm) return;
      const reason = `its VMM ended (${exit.reason}, ${exit.status})`;
      this.#states.concede(capsule, {
        from: state,
        to: { status: "error", reason, isDoomed: false },
      });
    });
  }

  #forget(capsule: Capsule): void {
    this.#capsules.delete(capsule.spec.id);
    this.#activity.forget(capsule.spec.id);
    this.#states.forget(capsule);
  }

  #view(capsule: Capsule): CapsuleView {
    const { slot } = capsule.progress;
    return viewOf(capsule, {
      hostIp: slot === null ? "" : this.#parts.network.slot(slot).hostIp,
      lastActiveAt: this.#activity.lastActiveAt(capsule.spec.id),
    });
  }
}

function assertUp(capsule: Capsule): void {
  if (!isUp(capsule.state)) throw notRunning(capsule);
}
