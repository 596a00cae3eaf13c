// The capsules of this host: who they are, what state they are in, and one operation at a time on each.
//
// A capsule is claimed in the journal before anything is made of it and forgotten after nothing is left.
// A create belongs to nobody's request: it goes on when its caller goes away, and whoever asks again with
// the same operation id gets its result. A destroy wins over a create.

import { AgentError, unknownCapsule } from "../errors.ts";
import type { Guest } from "../guest/guest.ts";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { CapsuleRow } from "../journal/journal.ts";
import { BOOTS_QUEUED_MAX, OUTCOMES_KEPT_MS, REMOVALS_AT_ONCE_MAX } from "../limits.ts";
import { assertMemory } from "../machine/available-memory.ts";
import { type CapsuleSource, connectGuest } from "../machine/build-capsule.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { takeDown } from "../machine/take-down.ts";
import type { RunningVmm } from "../metrics/capsule-metrics.ts";
import { Semaphore } from "../semaphore.ts";
import type { HeldGeneration } from "../snapshots/snapshots.ts";
import type { MemoryTemplates } from "../templates/memory-templates.ts";
import type { WarmSnapshots } from "../templates/warm-snapshots.ts";
import type { VmmProcess } from "../vmm/vmm.ts";
import { ActivityClock } from "./activity.ts";
import { type Capsule, type CapsuleStatus, newCapsule } from "./capsule.ts";
import { agentStopping, capsuleFailed, notRunning } from "./capsule-errors.ts";
import { type CapsuleView, viewOf } from "./capsule-view.ts";
import { type CreateOptions, createCapsule } from "./create-capsule.ts";
import { Lifecycle, type Unfinished } from "./lifecycle.ts";
import type { ResumedFrom, ResumeRequest } from "./resumes.ts";
import { settleAll } from "./settle-all.ts";

/** The use of a running capsule; disposed at the end of the call. */
export interface CapsuleLease extends Disposable {
  readonly guest: Guest;
}

export class Capsules {
  readonly #parts: HostParts;
  readonly #capsules = new Map<string, Capsule>();
  readonly #activity: ActivityClock;
  /**
   * A boot is bound by the CPU: more of them than cores make all of them late, and the last ones time
   * out. Removing is bound by netlink and the disk.
   */
  readonly #boots: Semaphore;
  readonly #removals = Semaphore.endless(REMOVALS_AT_ONCE_MAX);
  readonly #lifecycle: Lifecycle;
  readonly #starts: Omit<CreateOptions, "source">;
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
    });
    this.#starts = { boots: this.#boots, warm: options.warm, templates: options.templates };
    this.#lifecycle = new Lifecycle(parts, { boots: this.#boots });
  }

  /**
   * Makes the capsule and answers once its guest is up; the same operation again joins the first. Throws
   * AgentError: already_exists (another operation has the id), resource_exhausted, aborted (destroyed
   * meanwhile), unavailable (the guest did not come up), failed_precondition (no image), internal. On
   * failure nothing is left on the host.
   */
  async create(spec: CapsuleSpec, source: CapsuleSource | null = null): Promise<CapsuleView> {
    const capsule = this.#capsules.get(spec.id) ?? this.#begin(spec, source);
    if (capsule.spec.operationId !== spec.operationId) {
      throw new AgentError("already_exists", "sandbox_id is taken by another create", {
        subject: "capsule",
      });
    }
    await capsule.creating;
    if (capsule.status !== "running") throw notRunning(capsule);
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
    capsule.destroying ??= this.#destroy(capsule).finally(() => {
      capsule.destroying = null;
    });
    await capsule.destroying;
  }

  /** Stops the capsule; its memory is made durable behind the answer. Throws as Lifecycle.pause. */
  async pause(id: string, operationId: string): Promise<void> {
    const capsule = this.#known(id);
    if (this.#isClosing) throw agentStopping();
    await this.#lifecycle.pause(capsule, { reason: "requested", operationId });
  }

  /** Brings a paused capsule back, or one whose VMM ended. Throws as Lifecycle.resume. */
  async resume(
    id: string,
    request: ResumeRequest,
  ): Promise<{ view: CapsuleView; from: ResumedFrom }> {
    const capsule = this.#known(id);
    if (capsule.status === "paused") assertMemory(capsule.spec.memoryMib);
    const watched = capsule.progress.vmm;
    const from = await this.#lifecycle.resume(capsule, request);
    if (from !== null) {
      this.#activity.start(id, this.#parts.now());
      const { vmm } = capsule.progress;
      if (vmm && vmm !== watched) this.#watch(capsule, vmm);
    }
    if (capsule.status !== "running") throw notRunning(capsule);
    return { view: this.#view(capsule), from: from ?? "memory" };
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
    const expired = [...this.#capsules.values()].filter(({ spec: { id, timeoutSec }, status }) => {
      const isTimed = status === "running" && timeoutSec > 0;
      return isTimed && this.#activity.idleMs(id) >= timeoutSec * 1000;
    });
    await Promise.all(expired.map((capsule) => this.#lifecycle.expire(capsule)));
  }

  list(): CapsuleView[] {
    return [...this.#capsules.values()].map((capsule) => this.#view(capsule));
  }

  running(): RunningVmm[] {
    return [...this.#capsules.values()].flatMap(({ spec, status, progress: { vmm } }) =>
      status === "running" && vmm ? [{ id: spec.id, vcpus: spec.vcpus, vmm }] : [],
    );
  }

  /** Throws as `use` does; the capsule does not count as active for it. */
  assertRunning(id: string): void {
    this.#guestOf(id);
  }

  /**
   * The guest of a running capsule; the capsule counts as active until the lease is disposed. Throws
   * AgentError: not_found, failed_precondition (not running).
   */
  use(id: string): CapsuleLease {
    const guest = this.#guestOf(id);
    const hold = this.#activity.hold(id);
    return { guest, [Symbol.dispose]: () => hold[Symbol.dispose]() };
  }

  /** Takes up a capsule whose VMM outlived an agent. */
  adopt(row: CapsuleRow, vmm: VmmProcess): void {
    if (row.slot === null) throw new Error(`unreachable: ${row.spec.id} runs without a slot`);
    const capsule = this.#restore(row, { status: "running", reason: "" });
    capsule.progress.vmm = vmm;
    capsule.progress.guest = connectGuest(
      this.#parts,
      row.spec,
      this.#parts.network.slot(row.slot),
    );
    this.#watch(capsule, vmm);
  }

  /** Goes on with a capsule that was paused when an agent ended, or half-way there or back. */
  finish(row: CapsuleRow, state: Unfinished, vmm: VmmProcess | null): void {
    const status = state === "running" ? "pausing" : state;
    const capsule = this.#restore(row, { status, reason: row.reason });
    capsule.progress.vmm = vmm;
    if (row.slot !== null && vmm !== null) {
      const slot = this.#parts.network.slot(row.slot);
      capsule.progress.guest = connectGuest(this.#parts, row.spec, slot);
      this.#watch(capsule, vmm);
    }
    this.#lifecycle.finish(capsule, state);
  }

  /** Keeps a capsule that does not run: as an error until it is destroyed, or for the destroy at hand. */
  keep(row: CapsuleRow, state: { status: "error" | "stopping"; reason: string }): void {
    this.#restore(row, state);
  }

  /**
   * Undoes a create that was cut off by the end of an agent. Until that is done it is a create under
   * way, which then fails: whoever asks again joins it.
   */
  undo(row: CapsuleRow): Promise<void> {
    const capsule = this.#restore(row, { status: "starting", reason: "" });
    const outcome = new AgentError("aborted", "The agent was stopped during the create", {
      subject: "capsule",
    });
    capsule.creating = this.#settle(capsule, async () => {
      await this.#remove(capsule);
      this.#parts.journal.finishCreate(row.spec, outcome, this.#parts.now());
      throw outcome;
    });
    return capsule.creating;
  }

  /** Writes the activity clock to the journal, and drops outcomes too old to matter. */
  flush(): void {
    const unsaved = this.#activity.takeUnsaved();
    if (unsaved.size > 0) this.#parts.journal.saveActivity(unsaved);
    const now = this.#parts.now().getTime();
    this.#parts.journal.forgetOutcomes(new Date(now - OUTCOMES_KEPT_MS));
  }

  /** Refuses creates from now on and begins to undo those under way. */
  refuseCreates(): void {
    this.#isClosing = true;
    this.#lifecycle.refuse();
    for (const { creating, abort } of this.#capsules.values())
      if (creating) abort.abort(agentStopping());
  }

  /** Waits for what is being undone or destroyed, and leaves running capsules alone. */
  async close(): Promise<void> {
    this.refuseCreates();
    const capsules = [...this.#capsules.values()];
    await Promise.allSettled(
      capsules.flatMap(({ creating, destroying, transition }) => [
        creating,
        destroying,
        transition?.done,
      ]),
    );
    // Whatever is not sealed yet is sealed by the next agent.
    for (const { sealing } of capsules) sealing?.abort.abort();
    await Promise.allSettled(capsules.map(({ sealing }) => sealing?.done));
    for (const { progress } of capsules) progress.guest?.close();
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
      await Promise.allSettled([capsule.creating, capsule.destroying]);
      if (this.#capsules.get(capsule.spec.id) === capsule) await this.#lifecycle.rest(capsule);
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
    if (capsule.status !== "running" || guest === null) throw notRunning(capsule);
    return guest;
  }

  #begin(spec: CapsuleSpec, source: CapsuleSource | null): Capsule {
    const { journal, failpoints } = this.#parts;
    if (this.#isClosing) throw agentStopping();
    const outcome = journal.outcome(spec);
    if (outcome) throw new AgentError(outcome.code, outcome.message, { subject: "capsule" });
    assertMemory(spec.memoryMib);

    const createdAt = this.#parts.now();
    journal.claim(spec, createdAt);
    failpoints.reach("create.after-claim");
    const started = { spec, status: "starting", slot: null, envdVersion: "", createdAt } as const;
    const capsule = newCapsule({ ...started, pause: null });
    this.#capsules.set(spec.id, capsule);
    this.#activity.start(spec.id, createdAt);
    capsule.creating = this.#settle(capsule, async () => {
      await createCapsule(this.#parts, capsule, { ...this.#starts, source });
      capsule.status = "running";
      if (capsule.progress.vmm) this.#watch(capsule, capsule.progress.vmm);
    });
    return capsule;
  }

  /** Runs a create to its end. One that fails is forgotten, or kept as an error if something is left. */
  async #settle(capsule: Capsule, create: () => Promise<void>): Promise<void> {
    try {
      await create();
    } catch (error) {
      if (error instanceof AgentError) {
        this.#forget(capsule);
        throw error;
      }
      capsule.status = "error";
      capsule.isDoomed = true;
      capsule.reason = "its failed create could not be undone";
      this.#parts.log.error("capsule.stuck", { capsule: capsule.spec.id, error });
      throw capsuleFailed(capsule.reason, error);
    } finally {
      capsule.creating = null;
    }
  }

  async #remove({ spec, progress }: Capsule): Promise<void> {
    using _permit = await this.#removals.acquire(new AbortController().signal);
    await takeDown(this.#parts, { id: spec.id, slot: progress.slot, vmm: progress.vmm });
  }

  async #destroy(capsule: Capsule): Promise<void> {
    const { spec, progress } = capsule;
    const { journal, failpoints, log } = this.#parts;
    capsule.status = "stopping";
    capsule.isDoomed = true;
    const gone = `Capsule "${spec.id}" was destroyed`;
    capsule.abort.abort(new AgentError("aborted", gone, { subject: "capsule" }));
    journal.markDestroying(spec.id);
    failpoints.reach("destroy.after-mark");
    progress.guest?.close();
    // A create that is cut off removes what it made. If that fails, it is tried again below.
    await capsule.creating?.catch(() => {});
    try {
      await this.#endTransition(capsule);
      if (this.#capsules.get(spec.id) === capsule) await this.#remove(capsule);
    } catch (error) {
      log.error("capsule.destroy-failed", { capsule: spec.id, error });
      capsule.status = "error";
      capsule.reason = "it could not be destroyed";
      throw capsuleFailed(capsule.reason, error);
    }
    journal.finishDestroy(spec.id, this.#parts.now());
    failpoints.reach("destroy.after-finish");
    this.#forget(capsule);
    log.info("capsule.destroyed", { capsule: spec.id });
  }

  /** Sealing needs the VMM, and nothing may write into the capsule's snapshots while they go. */
  async #endTransition(capsule: Capsule): Promise<void> {
    await capsule.transition?.done.catch(() => {});
    const { sealing } = capsule;
    if (!sealing) return;
    sealing.abort.abort();
    if (!sealing.isFreeing) await capsule.progress.vmm?.kill();
    await sealing.done;
  }

  /** Notes the end of a VMM that nobody asked to end. */
  #watch(capsule: Capsule, vmm: VmmProcess): void {
    void vmm.exited.then((exit) => {
      this.#parts.log.info("vmm.exited", { capsule: capsule.spec.id, ...exit });
      // One that is paused is looked after by its sealing, one that is on its way by that.
      if (capsule.status !== "running" || capsule.progress.vmm !== vmm) return;
      capsule.status = "error";
      capsule.reason = `its VMM ended (${exit.reason}, ${exit.status})`;
      capsule.progress.guest?.close();
      this.#parts.journal.markFailed(capsule.spec.id, capsule.reason);
    });
  }

  #restore(row: CapsuleRow, state: { status: CapsuleStatus; reason: string }): Capsule {
    const capsule = newCapsule({ ...row, status: state.status });
    capsule.reason = state.reason;
    this.#capsules.set(row.spec.id, capsule);
    this.#activity.start(row.spec.id, row.lastActiveAt);
    return capsule;
  }

  #forget(capsule: Capsule): void {
    this.#capsules.delete(capsule.spec.id);
    this.#activity.forget(capsule.spec.id);
  }

  #view(capsule: Capsule): CapsuleView {
    const { slot } = capsule.progress;
    return viewOf(capsule, {
      hostIp: slot === null ? "" : this.#parts.network.slot(slot).hostIp,
      lastActiveAt: this.#activity.lastActiveAt(capsule.spec.id),
    });
  }
}
