// What goes on behind a pause that was answered: its memory is sealed into a generation, and only then its
// VMM ends. A resume before that takes the VMM back, and the unfinished generation is dropped. The capsule's
// `sealing` is what says that this is under way. docs/memory.md says what it costs.

import { setTimeout as sleep } from "node:timers/promises";
import { AgentError } from "../errors.ts";
import { isHeldByVmm, type PauseRecord } from "../journal/pause-record.ts";
import { SEAL_DELAY_MS, SEAL_RETRY_MS, SEALS_AT_ONCE_MAX } from "../limits.ts";
import { newProgress } from "../machine/build-capsule.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { type LiveParts, liveCapsule } from "../machine/live-capsule.ts";
import { freeHost, type HeldParts, type RestingDisk } from "../machine/take-down.ts";
import { Semaphore } from "../semaphore.ts";
import { SnapshotError } from "../snapshots/snapshot-error.ts";
import type { Generation, LiveCapsule } from "../snapshots/snapshots.ts";
import { exitOf } from "../vmm/vmm.ts";
import type { Capsule, Sealing } from "./capsule.ts";
import type { CapsuleState, CapsuleStates, Paused } from "./states.ts";

/** What a caller who wants a paused capsule's memory on the disk waits for it. */
const DURABLE_WAIT_MS = 60_000;
/** Then a resume looks again: what could not be freed is tried again for ever. */
const FREED_WAIT_MS = 1_000;
/** For all memory of a host to reach its disk. */
const SEAL_WAIT_MS = 600_000;

type SealParts = LiveParts & HeldParts & Pick<HostParts, "log" | "now">;

export class Seals {
  readonly #parts: SealParts;
  readonly #states: CapsuleStates;
  readonly #permits = Semaphore.endless(SEALS_AT_ONCE_MAX);

  constructor(parts: SealParts, states: CapsuleStates) {
    this.#parts = parts;
    this.#states = states;
  }

  /** To save memory as sealing does. Throws the signal's reason. */
  async permit(signal: AbortSignal): Promise<Disposable> {
    return await this.#permits.acquire(signal);
  }

  /**
   * Makes a paused capsule durable behind everything else, unless it is or its VMM is gone, then frees what
   * it has on the host. What fails is tried again until it succeeds or is stopped.
   */
  start(capsule: Capsule): void {
    const sealing: Sealing = {
      abort: new AbortController(),
      isFreeing: capsule.progress.vmm === null,
      done: Promise.resolve(),
    };
    capsule.sealing = sealing;
    sealing.done = this.#sealUntilDone(capsule, sealing).finally(() => {
      if (capsule.sealing === sealing) capsule.sealing = null;
    });
  }

  /** Ends sealing, however far it is; what it has frozen stays so. */
  async stop({ sealing }: Capsule): Promise<void> {
    sealing?.abort.abort();
    await sealing?.done;
  }

  /** Waits until a paused capsule is durable, or it has taken too long, and seals it no more. */
  async finish(capsule: Capsule): Promise<void> {
    await within(SEAL_WAIT_MS, capsule.sealing?.done);
    await this.stop(capsule);
  }

  /** Throws AgentError unavailable if a paused capsule is not durable in time. */
  async awaitDurable(capsule: Capsule): Promise<void> {
    await within(DURABLE_WAIT_MS, capsule.sealing?.done);
    const { state } = capsule;
    if (state.status !== "paused" || !isHeldByVmm(state.pause)) return;
    throw new AgentError("unavailable", "The capsule's memory is not yet on the disk", {
      subject: "host",
    });
  }

  /** Waits a moment for what is being freed. */
  async awaitFreed({ sealing }: Capsule): Promise<void> {
    await within(FREED_WAIT_MS, sealing?.done);
  }

  /** Frees slot, control group, run directory and VMM of a capsule that needs none of them. */
  async free(capsule: Capsule, disk: RestingDisk = "kept"): Promise<void> {
    const { spec, progress } = capsule;
    progress.guest?.close("paused");
    await freeHost(this.#parts, { id: spec.id, slot: progress.slot, vmm: progress.vmm }, disk);
    capsule.progress = newProgress({ slot: null, envdVersion: progress.envdVersion });
  }

  /** Never rejects. */
  async #sealUntilDone(capsule: Capsule, sealing: Sealing): Promise<void> {
    const { signal } = sealing.abort;
    while (!signal.aborted) {
      const wasFreeing = sealing.isFreeing;
      try {
        await (wasFreeing ? this.#settleLost(capsule) : this.#seal(capsule, signal));
        sealing.isFreeing = true;
        await this.free(capsule);
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#parts.log.error("capsule.seal-failed", { capsule: capsule.spec.id, error });
      }
      // A resume need not wait for the next attempt.
      sealing.isFreeing = false;
      const { vmm } = capsule.progress;
      const hasVmm = vmm !== null && (await exitOf(vmm)) === null;
      // Cut off, it rejects: the loop ends then.
      if (hasVmm || wasFreeing) await sleep(SEAL_RETRY_MS, undefined, { signal }).catch(() => {});
      sealing.isFreeing = !hasVmm && !signal.aborted;
    }
  }

  async #seal(capsule: Capsule, signal: AbortSignal): Promise<void> {
    const { failpoints, log, now } = this.#parts;
    const { spec, state, progress } = capsule;
    if (!isHeld(state)) return;
    failpoints.reach("pause.after-paused");
    await sleep(SEAL_DELAY_MS, undefined, { signal });
    const startedAt = performance.now();
    const live = liveCapsule(this.#parts, spec, progress.vmm);
    const generation = await this.#inTurn(signal, () => this.#sealAgain(live, state.pause));
    failpoints.reach("seal.after-seal");
    // From here on a resume restores: nothing is awaited between this look and the move.
    signal.throwIfAborted();
    const number = generation.manifest.generation;
    const sealed = { generation: number, diskGeneration: number, durableAtMs: now().getTime() };
    const to: Paused = { status: "paused", pause: { ...state.pause, ...sealed } };
    this.#states.move(capsule, { from: state, to });
    failpoints.reach("seal.after-durable");
    await this.#dropAsides(spec.id);
    log.info("capsule.durable", {
      capsule: spec.id,
      generation: number,
      total_ms: Math.round(performance.now() - startedAt),
    });
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

  /**
   * The VMM of a paused capsule is gone. If that was before its memory was durable, an older generation or
   * the disk is what a resume has.
   */
  async #settleLost(capsule: Capsule): Promise<void> {
    const { spec, state } = capsule;
    const { log, now, snapshots } = this.#parts;
    if (!isHeld(state)) return;
    const { pause } = state;
    const { generation, refused } = await snapshots.latest(spec.id);
    const number = generation?.manifest.generation;
    const isSealed = number !== undefined && number === pause.generation;
    if (!isSealed) log.error("capsule.memory-lost", { capsule: spec.id, refused });
    const found = isSealed
      ? { durableAtMs: now().getTime(), diskGeneration: number }
      : { isLost: true };
    if (capsule.state !== state) return;
    const to: Paused = { status: "paused", pause: { ...pause, ...found } };
    this.#states.concede(capsule, { from: state, to });
  }

  /** Those for generations that went when this one came. */
  async #dropAsides(id: string): Promise<void> {
    const { disks, log, snapshots } = this.#parts;
    try {
      const generations = await snapshots.listOf(id);
      await disks.dropAsides(
        id,
        generations.map(({ number }) => number),
      );
    } catch (error) {
      log.warn("capsule.disk-kept", { capsule: id, error });
    }
  }

  async #inTurn<T>(signal: AbortSignal, run: () => Promise<T>): Promise<T> {
    using _permit = await this.permit(signal);
    return await run();
  }
}

/** Its memory is with its VMM and nowhere else. */
function isHeld(state: CapsuleState): state is Paused {
  return state.status === "paused" && isHeldByVmm(state.pause);
}

/** Waits for the work, at most for so long. */
async function within(ms: number, work: Promise<unknown> | undefined): Promise<void> {
  // A timer that is left would keep the agent from ending.
  const waiting = new AbortController();
  await Promise.race([work, sleep(ms, undefined, waiting)]);
  waiting.abort();
}
