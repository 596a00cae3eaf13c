// Snapshots of capsules that go on: of a running one its memory is saved while it runs, and it stands still
// only for what it wrote meanwhile; a paused one has its generation.

import type { HostParts } from "../machine/host-parts.ts";
import { type LiveParts, liveCapsule } from "../machine/live-capsule.ts";
import type { HeldGeneration } from "../snapshots/snapshots.ts";
import type { Capsule } from "./capsule.ts";
import { noGeneration, snapshotFailure } from "./capsule-errors.ts";
import type { Pauses } from "./pauses.ts";
import type { Seals } from "./seals.ts";
import {
  type CapsuleStates,
  Operation,
  type Paused,
  type Running,
  type Snapshotting,
} from "./states.ts";

type CaptureParts = LiveParts & Pick<HostParts, "snapshots" | "failpoints" | "log">;

export class Captures {
  readonly #parts: CaptureParts;
  readonly #states: CapsuleStates;
  readonly #seals: Seals;
  readonly #pauses: Pauses;

  constructor(
    parts: CaptureParts,
    options: { states: CapsuleStates; seals: Seals; pauses: Pauses },
  ) {
    this.#parts = parts;
    this.#states = options.states;
    this.#seals = options.seals;
    this.#pauses = options.pauses;
  }

  /** The generation of a capsule whose pause is durable, held for the caller to dispose. Throws AgentError. */
  async hold({ spec }: Capsule, { pause }: Paused): Promise<HeldGeneration> {
    const { snapshots } = this.#parts;
    const { generation } = await snapshots.latest(spec.id);
    if (generation === null || generation.manifest.generation !== pause.generation) {
      throw noGeneration();
    }
    try {
      return await snapshots.hold(generation);
    } catch (error) {
      throw snapshotFailure(error);
    }
  }

  /**
   * Makes a generation of a running capsule as it is now, held for the caller to dispose. Throws
   * AgentError; it runs on.
   */
  async capture(capsule: Capsule, before: Running, operationId: string): Promise<HeldGeneration> {
    const operation = new Operation(operationId);
    const to: Snapshotting = { status: "snapshotting", operation, before };
    const snapshotting = this.#states.move(capsule, { from: before, to });
    return await operation.run(() => this.#capture(capsule, snapshotting));
  }

  async #capture(capsule: Capsule, snapshotting: Snapshotting): Promise<HeldGeneration> {
    const { snapshots, failpoints, log } = this.#parts;
    const { spec, progress } = capsule;
    const { signal } = snapshotting.operation;
    const startedAt = performance.now();
    let held: HeldGeneration | null = null;
    try {
      // Not while the guest stands still.
      using _permit = await this.#seals.permit(signal);
      const live = liveCapsule(this.#parts, spec, progress.vmm);
      await using draft = await snapshots.draft(live);
      failpoints.reach("capture.after-draft");
      const stoppedAt = performance.now();
      let stoppedMs = 0;
      await snapshots.pause(live, async () => {
        await progress.guest?.freeze();
        failpoints.reach("capture.after-freeze");
      });
      failpoints.reach("capture.after-stop");
      const copied = async () => {
        await this.#pauses.wake(capsule);
        stoppedMs = performance.now() - stoppedAt;
        failpoints.reach("capture.after-wake");
      };
      const generation = await snapshots.seal(live, { draft, copied });
      failpoints.reach("capture.after-seal");
      held = await snapshots.hold(generation);
      failpoints.reach("capture.after-hold");
      signal.throwIfAborted();
      this.#states.concede(capsule, { from: snapshotting, to: snapshotting.before });
      log.info("capsule.captured", {
        capsule: spec.id,
        is_drafted: draft !== null,
        stopped_ms: Math.round(stoppedMs),
        total_ms: Math.round(performance.now() - startedAt),
      });
      return held;
    } catch (error) {
      await held?.[Symbol.asyncDispose]();
      signal.throwIfAborted();
      throw await this.#pauses.runOn(capsule, snapshotting, error);
    }
  }
}
