// Pausing: the guest is stopped and its device state saved, then the caller has its answer, and the rest is
// made durable behind it (seals.ts). Until the answer every failure lets the guest run on.

import type { AgentError } from "../errors.ts";
import { newPause, type PauseReason } from "../journal/pause-record.ts";
import { identityOf } from "../machine/build-capsule.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { type LiveParts, liveCapsule } from "../machine/live-capsule.ts";
import { exitOf } from "../vmm/vmm.ts";
import type { Capsule } from "./capsule.ts";
import { capsuleEnded, snapshotFailure } from "./capsule-errors.ts";
import type { Seals } from "./seals.ts";
import {
  type CapsuleStates,
  Operation,
  type Paused,
  type Pausing,
  type Running,
  type Snapshotting,
} from "./states.ts";

type PauseParts = LiveParts & Pick<HostParts, "snapshots" | "failpoints" | "log" | "now">;

export class Pauses {
  readonly #parts: PauseParts;
  readonly #states: CapsuleStates;
  readonly #seals: Seals;

  constructor(parts: PauseParts, options: { states: CapsuleStates; seals: Seals }) {
    this.#parts = parts;
    this.#states = options.states;
    this.#seals = options.seals;
  }

  /** Of a running capsule. Throws AgentError; it runs on then, or is in error if it cannot. */
  async pause(
    capsule: Capsule,
    before: Running,
    options: { reason: PauseReason; operationId: string },
  ): Promise<void> {
    const startedAt = performance.now();
    const operation = new Operation(options.operationId);
    const pause = newPause(options.reason);
    const to: Pausing = { status: "pausing", operation, before, pause };
    const pausing = this.#states.move(capsule, { from: before, to });
    await operation.run(() => this.#pause(capsule, pausing));
    this.#parts.log.info("capsule.paused", {
      capsule: capsule.spec.id,
      reason: pause.reason,
      total_ms: Math.round(performance.now() - startedAt),
    });
  }

  async #pause(capsule: Capsule, pausing: Pausing): Promise<void> {
    const { failpoints, snapshots } = this.#parts;
    const { guest, vmm } = capsule.progress;
    const { signal } = pausing.operation;
    try {
      failpoints.reach("pause.after-mark");
      const live = liveCapsule(this.#parts, capsule.spec, vmm);
      const { generation } = await snapshots.pause(live, async () => {
        await guest?.freeze();
        failpoints.reach("pause.after-freeze");
      });
      failpoints.reach("pause.after-stop");
      signal.throwIfAborted();
      const to: Paused = { status: "paused", pause: { ...pausing.pause, generation } };
      this.#states.move(capsule, { from: pausing, to });
    } catch (error) {
      signal.throwIfAborted();
      throw await this.runOn(capsule, pausing, error);
    }
    guest?.close("paused");
    this.#seals.start(capsule);
  }

  /**
   * Lets a guest run on that was stopped, or was about to be; answers with what the caller gets for the
   * error. Nobody can stop it again before its processes run.
   */
  async runOn(capsule: Capsule, from: Pausing | Snapshotting, error: unknown): Promise<AgentError> {
    const { log, snapshots } = this.#parts;
    const { spec, progress } = capsule;
    log.warn(`capsule.${from.status}-failed`, { capsule: spec.id, error });
    try {
      await snapshots.resumeLive(liveCapsule(this.#parts, spec, progress.vmm));
      await this.wake(capsule);
    } catch (cause) {
      log.error("capsule.stuck", { capsule: spec.id, error: cause });
      const exit = progress.vmm && (await exitOf(progress.vmm));
      const reason = "it could not go on after a pause that failed";
      if (capsule.state === from) {
        const to = { status: "error", reason, isDoomed: false } as const;
        this.#states.concede(capsule, { from, to });
      }
      return exit ? capsuleEnded(error) : snapshotFailure(error);
    }
    if (capsule.state === from) this.#states.concede(capsule, { from, to: from.before });
    return snapshotFailure(error);
  }

  /** Lets a guest that may have been frozen run on. Nobody can stop it before it does. */
  async adopt(capsule: Capsule, from: Snapshotting): Promise<void> {
    await this.wake(capsule);
    if (capsule.state === from) this.#states.concede(capsule, { from, to: from.before });
  }

  /** Tells a guest that stood still the time, and lets its processes run. */
  async wake({ spec, progress }: Capsule): Promise<void> {
    const { log, now } = this.#parts;
    // If this is lost, they run by themselves a minute after the freeze.
    await progress.guest?.init(identityOf(spec), now()).catch((error: unknown) => {
      log.warn("capsule.wake-failed", { capsule: spec.id, error });
    });
  }
}
