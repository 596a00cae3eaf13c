// How a capsule leaves the host: by a destroy, or since its create came to nothing.

import { REMOVALS_AT_ONCE_MAX } from "../limits.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { type HeldParts, takeDown } from "../machine/take-down.ts";
import { Semaphore } from "../semaphore.ts";
import type { Capsule } from "./capsule.ts";
import { capsuleFailed } from "./capsule-errors.ts";
import type { Seals } from "./seals.ts";
import type { CapsuleStates, Failed, Operation } from "./states.ts";

type RemovalParts = HeldParts & Pick<HostParts, "log" | "now">;

export class Removals {
  readonly #parts: RemovalParts;
  readonly #states: CapsuleStates;
  readonly #seals: Seals;
  /** Bound by netlink and the disk. */
  readonly #permits = Semaphore.endless(REMOVALS_AT_ONCE_MAX);

  constructor(parts: RemovalParts, options: { states: CapsuleStates; seals: Seals }) {
    this.#parts = parts;
    this.#states = options.states;
    this.#seals = options.seals;
  }

  /** Removes all that it has; `forget` as for takeDown. Throws what takeDown throws. */
  async remove({ spec, progress }: Capsule, forget: () => void): Promise<void> {
    using _permit = await this.#permits.acquire(new AbortController().signal);
    const { slot, vmm } = progress;
    await takeDown(this.#parts, { id: spec.id, slot, vmm }, forget);
  }

  /**
   * Removes a capsule that is stopping, after what that has cut off, which `isGone` tells may have removed it
   * already. Throws AgentError internal; it is in error then.
   */
  async destroy(
    capsule: Capsule,
    { cutOff, isGone }: { cutOff: Operation | null; isGone: () => boolean },
  ): Promise<void> {
    const { spec, state, progress } = capsule;
    const { journal, failpoints, log, now } = this.#parts;
    const forget = () => journal.finishDestroy(spec.id, now());
    try {
      failpoints.reach("destroy.after-mark");
      progress.guest?.close();
      await cutOff?.done.catch(() => {});
      await this.#endSealing(capsule);
      // Not what a create that came to nothing has given back: somebody else may have it.
      if (isGone()) forget();
      else await this.remove(capsule, forget);
    } catch (error) {
      log.error("capsule.destroy-failed", { capsule: spec.id, error });
      const reason = "it could not be destroyed";
      const to: Failed = { status: "error", reason, isDoomed: true };
      this.#states.concede(capsule, { from: state, to });
      throw capsuleFailed(reason, error);
    }
    log.info("capsule.destroyed", { capsule: spec.id });
  }

  /** It needs the VMM, and nothing may write into the capsule's snapshots while they go. */
  async #endSealing(capsule: Capsule): Promise<void> {
    if (capsule.sealing && !capsule.sealing.isFreeing) await capsule.progress.vmm?.kill();
    await this.#seals.stop(capsule);
  }
}
