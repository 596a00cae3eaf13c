// Pausing: the guest is stopped and its device state saved, then the caller has its answer. Behind it the
// memory is sealed into a generation, and only then the VMM ends. Until the answer every failure lets the
// guest run on; until the end of sealing a resume lets it run on, too, and the unfinished generation is
// dropped. docs/memory.md says what sealing costs.

import { setTimeout as sleep } from "node:timers/promises";
import { AgentError } from "../errors.ts";
import { CAPTURE_STEP } from "../journal/journal.ts";
import { newPause, type PauseReason, type PauseRecord } from "../journal/pause-record.ts";
import { SEAL_RETRY_MS, SEALS_AT_ONCE_MAX } from "../limits.ts";
import { identityOf, newProgress } from "../machine/build-capsule.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { liveCapsule } from "../machine/live-capsule.ts";
import { freeHost } from "../machine/take-down.ts";
import { Semaphore } from "../semaphore.ts";
import { SnapshotError } from "../snapshots/snapshot-error.ts";
import type { Generation, HeldGeneration, LiveCapsule } from "../snapshots/snapshots.ts";
import type { VmmProcess } from "../vmm/vmm.ts";
import type { Capsule, Sealing } from "./capsule.ts";
import { noGeneration, snapshotFailure } from "./capsule-errors.ts";

/** For the end of a VMM to be seen, after what was asked of it failed. */
const EXIT_NOTICE_MS = 1_000;
/** What a caller who wants a copy of a paused capsule waits for its memory to reach the disk. */
const CAPTURE_WAIT_MS = 60_000;
/** For all memory of a host to reach its disk. */
const SEAL_WAIT_MS = 600_000;

export class Pauses {
  readonly #parts: HostParts;
  readonly #seals = Semaphore.endless(SEALS_AT_ONCE_MAX);

  constructor(parts: HostParts) {
    this.#parts = parts;
  }

  /** Of a running capsule. Throws AgentError; it runs on then, or is in error if it cannot. */
  async pause(
    capsule: Capsule,
    options: { reason: PauseReason; operationId: string },
  ): Promise<void> {
    const { journal, failpoints, log } = this.#parts;
    const { id } = capsule.spec;
    const { signal } = capsule.abort;
    const startedAt = performance.now();
    const pause = newPause(options.reason, options.operationId);
    journal.markPause(id, "pausing", pause);
    capsule.status = "pausing";
    capsule.pause = pause;
    try {
      failpoints.reach("pause.after-mark");
      const { guest, vmm } = capsule.progress;
      await guest?.freeze();
      failpoints.reach("pause.after-freeze");
      const { generation } = await this.#parts.snapshots.pause(
        liveCapsule(this.#parts, capsule.spec, vmm),
      );
      failpoints.reach("pause.after-stop");
      signal.throwIfAborted();
      this.#settle(capsule, { ...pause, generation });
    } catch (error) {
      signal.throwIfAborted();
      throw await this.runOn(capsule, error);
    }
    log.info("capsule.paused", {
      capsule: id,
      reason: pause.reason,
      total_ms: Math.round(performance.now() - startedAt),
    });
    this.startSealing(capsule);
  }

  /** Undoes a pause before its answer; answers with what its caller gets for the error. */
  async runOn(capsule: Capsule, error: unknown): Promise<AgentError> {
    const { journal, log, snapshots } = this.#parts;
    const { spec, progress } = capsule;
    log.warn("capsule.pause-failed", { capsule: spec.id, error });
    try {
      await snapshots.resumeLive(liveCapsule(this.#parts, spec, progress.vmm));
    } catch (cause) {
      log.error("capsule.stuck", { capsule: spec.id, error: cause });
      capsule.status = "error";
      capsule.reason = "it could not go on after a pause that failed";
      capsule.pause = null;
      journal.markFailed(spec.id, capsule.reason);
      return snapshotFailure(error);
    }
    capsule.status = "running";
    capsule.pause = null;
    try {
      journal.markRunning(spec, progress.envdVersion);
    } catch (cause) {
      // A full disk: the next agent finds a pause that was cut off, and lets it run on once more.
      log.error("capsule.unjournalled", { capsule: spec.id, error: cause });
    }
    await this.#wake(capsule);
    return snapshotFailure(error);
  }

  /**
   * Makes a generation of a capsule as it is now, held for the caller to dispose; a paused one MUST be
   * durable. Throws AgentError; it goes on as it was.
   */
  async capture(capsule: Capsule): Promise<HeldGeneration> {
    const { snapshots } = this.#parts;
    if (capsule.status !== "paused") return await this.#captureRunning(capsule);
    const { generation } = await snapshots.latest(capsule.spec.id);
    if (generation === null) throw noGeneration();
    if (generation.manifest.generation !== capsule.pause?.generation) throw noGeneration();
    try {
      return await snapshots.hold(generation);
    } catch (error) {
      throw snapshotFailure(error);
    }
  }

  async #captureRunning(capsule: Capsule): Promise<HeldGeneration> {
    const { snapshots, failpoints, journal, log } = this.#parts;
    const { spec, progress, abort } = capsule;
    const startedAt = performance.now();
    let held: HeldGeneration | null = null;
    journal.beginStep(spec.id, CAPTURE_STEP);
    try {
      // Not while the guest stands still.
      using _permit = await this.#seals.acquire(abort.signal);
      const live = liveCapsule(this.#parts, spec, progress.vmm);
      await using draft = await snapshots.draft(live);
      failpoints.reach("capture.after-draft");
      const stoppedAt = performance.now();
      let stoppedMs = 0;
      await progress.guest?.freeze();
      failpoints.reach("capture.after-freeze");
      await snapshots.pause(live);
      failpoints.reach("capture.after-stop");
      const copied = async () => {
        await this.#wake(capsule);
        stoppedMs = performance.now() - stoppedAt;
        failpoints.reach("capture.after-wake");
      };
      const generation = await snapshots.seal(live, { draft, copied });
      failpoints.reach("capture.after-seal");
      held = await snapshots.hold(generation);
      failpoints.reach("capture.after-hold");
      journal.markRunning(spec, progress.envdVersion);
      log.info("capsule.captured", {
        capsule: spec.id,
        is_drafted: draft !== null,
        stopped_ms: Math.round(stoppedMs),
        total_ms: Math.round(performance.now() - startedAt),
      });
      return held;
    } catch (error) {
      await held?.[Symbol.asyncDispose]();
      abort.signal.throwIfAborted();
      throw await this.runOn(capsule, error);
    }
  }

  /** Throws AgentError unavailable if a paused capsule is not durable in time. */
  async awaitDurable(capsule: Capsule): Promise<void> {
    const waiting = new AbortController();
    await Promise.race([capsule.sealing?.done, sleep(CAPTURE_WAIT_MS, undefined, waiting)]);
    waiting.abort();
    if (capsule.status !== "paused" || capsule.pause?.durableAtMs) return;
    throw new AgentError("unavailable", "The capsule's memory is not yet on the disk", {
      subject: "host",
    });
  }

  /** Tells a guest that stood still the time, and lets its processes run. */
  async #wake({ spec, progress }: Capsule): Promise<void> {
    const { log, now } = this.#parts;
    // If this is lost, they run by themselves a minute after the freeze.
    await progress.guest?.init(identityOf(spec), now()).catch((error: unknown) => {
      log.warn("capsule.wake-failed", { capsule: spec.id, error });
    });
  }

  /** Makes a paused capsule durable behind everything else, then frees what it has on the host. */
  startSealing(capsule: Capsule): void {
    const sealing: Sealing = {
      abort: new AbortController(),
      isFreeing: false,
      done: Promise.resolve(),
    };
    capsule.sealing = sealing;
    sealing.done = this.#sealUntilDone(capsule, sealing).finally(() => {
      if (capsule.sealing === sealing) capsule.sealing = null;
    });
  }

  /** Waits until a paused capsule is durable, or it has taken too long. */
  async seal(capsule: Capsule): Promise<void> {
    const { sealing } = capsule;
    if (!sealing) return;
    // A timer that is left would keep the agent from ending.
    const waiting = new AbortController();
    await Promise.race([sealing.done, sleep(SEAL_WAIT_MS, undefined, waiting)]);
    waiting.abort();
    sealing.abort.abort();
    await sealing.done;
  }

  /** Frees slot, control group, run directory and VMM of a capsule whose pause is durable. */
  async free(capsule: Capsule): Promise<void> {
    const { spec, progress } = capsule;
    progress.guest?.close("The capsule is paused");
    await freeHost(this.#parts, { id: spec.id, slot: progress.slot, vmm: progress.vmm });
    capsule.progress = newProgress({ slot: null, envdVersion: progress.envdVersion });
  }

  /**
   * A paused capsule's VMM is gone. If that was before its memory was durable, an older generation or
   * the disk is what a resume has.
   */
  async settleLost(capsule: Capsule): Promise<void> {
    const { spec, pause } = capsule;
    const { log, snapshots } = this.#parts;
    if (pause === null || pause.durableAtMs !== null) return;
    const { generation, refused } = await snapshots.latest(spec.id);
    const isSealed = generation !== null && generation.manifest.generation === pause.generation;
    if (!isSealed) {
      capsule.reason = "its memory was lost before it was durable";
      log.error("capsule.memory-lost", { capsule: spec.id, refused });
    }
    const diskGeneration = isSealed ? generation.manifest.generation : null;
    this.#settle(capsule, { ...pause, durableAtMs: this.#parts.now().getTime(), diskGeneration });
    await this.free(capsule);
  }

  async #sealUntilDone(capsule: Capsule, sealing: Sealing): Promise<void> {
    const { signal } = sealing.abort;
    const { failpoints, log } = this.#parts;
    while (!signal.aborted) {
      try {
        failpoints.reach("pause.after-paused");
        await this.#seal(capsule, sealing);
        return;
      } catch (error) {
        if (signal.aborted) return;
        log.error("capsule.seal-failed", { capsule: capsule.spec.id, error });
        // What could not be freed is for the next resume or destroy.
        if (sealing.isFreeing) return;
        if (await hasEnded(capsule.progress.vmm)) {
          sealing.isFreeing = true;
          await this.settleLost(capsule);
          return;
        }
      }
      // Cut off, it rejects: the loop ends then.
      await sleep(SEAL_RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  async #seal(capsule: Capsule, sealing: Sealing): Promise<void> {
    const { failpoints, log, now } = this.#parts;
    const { signal } = sealing.abort;
    const { spec, pause, progress } = capsule;
    if (pause === null) throw new Error(`unreachable: ${spec.id} is not paused`);
    const startedAt = performance.now();
    const live = liveCapsule(this.#parts, spec, progress.vmm);
    const generation = await this.#inTurn(signal, () => this.#sealAgain(live, pause));
    failpoints.reach("seal.after-seal");
    // From here on a resume restores: nothing is awaited between this look and the mark.
    signal.throwIfAborted();
    const number = generation.manifest.generation;
    const sealed = { generation: number, diskGeneration: number, durableAtMs: now().getTime() };
    this.#settle(capsule, { ...pause, ...sealed });
    sealing.isFreeing = true;
    failpoints.reach("seal.after-durable");
    log.info("capsule.durable", {
      capsule: spec.id,
      generation: number,
      total_ms: Math.round(performance.now() - startedAt),
    });
    await this.free(capsule);
  }

  /** Seals, or finds that an agent had done it, or was killed with half of it done. */
  async #sealAgain(live: LiveCapsule, pause: PauseRecord): Promise<Generation> {
    const { snapshots } = this.#parts;
    try {
      return await snapshots.seal(live);
    } catch (error) {
      if (!(error instanceof SnapshotError) || error.code !== "not_paused") throw error;
      const { generation } = await snapshots.latest(live.capsuleId);
      if (generation?.manifest.generation === pause.generation) return generation;
      if ((await snapshots.state(live)) === "running") throw error;
      await snapshots.pause(live);
      return await snapshots.seal(live);
    }
  }

  async #inTurn<T>(signal: AbortSignal, run: () => Promise<T>): Promise<T> {
    using _permit = await this.#seals.acquire(signal);
    return await run();
  }

  #settle(capsule: Capsule, pause: PauseRecord): void {
    this.#parts.journal.markPause(capsule.spec.id, "paused", pause);
    capsule.pause = pause;
    capsule.status = "paused";
    capsule.progress.guest?.close("The capsule is paused");
  }
}

async function hasEnded(vmm: VmmProcess | null): Promise<boolean> {
  const ended = vmm?.exited.then(() => true);
  return await Promise.race([ended ?? true, Bun.sleep(EXIT_NOTICE_MS).then(() => false)]);
}
