// Guests that stand still since the host had no room for what they wrote: their VMM stopped them and keeps the
// write, to do it again. As soon as there is room they are let run on; until then whoever calls one, or waits for its
// answer, is told. Where the write would be lost, and the disk with it (device-mapper), it is held before.

import { rm, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AgentError } from "../errors.ts";
import {
  HOLD_BYTES,
  HOLD_END_BYTES,
  ROOM_LOW_BYTES,
  STALL_ROOM_BYTES_MIN,
  STALL_SHORT_BYTES,
} from "../limits.ts";
import { capsuleRunDir } from "../machine/capsule-paths.ts";
import type { HostParts } from "../machine/host-parts.ts";
import type { Capsule } from "./capsule.ts";
import type { Pauses } from "./pauses.ts";
import type { CapsuleStatus } from "./states.ts";

type StallParts = Pick<HostParts, "vmm" | "disks" | "log" | "runDir" | "logsDir" | "failpoints">;

/**
 * In a capsule's run directory, which is in memory: its guest may have been let run on, and not been told the
 * time yet. Whoever finds it does that, for a guest that runs shows nothing of having stood still.
 */
const UNTOLD = "untold-time";

/** Whose guest is to run. */
const RUNNING: ReadonlySet<CapsuleStatus> = new Set(["starting", "running", "resuming"]);

export class Stalls {
  readonly #parts: StallParts;
  readonly #pauses: Pauses;
  /** An earlier agent may have seen it. */
  #wasShort = true;
  #isPassing = false;
  /** Whether the disks hold what is written. Null: an earlier agent may have left it so. */
  #isHolding: boolean | null = null;
  #isLow = false;
  /** Ids of those that stood still at the last pass. */
  #standing: ReadonlySet<string> = new Set();

  constructor(parts: StallParts, pauses: Pauses) {
    this.#parts = parts;
    this.#pauses = pauses;
  }

  /** Throws `resource_exhausted`, about the host, while the guest of the capsule stands still. */
  assertMoves(id: string): void {
    if (this.#standing.has(id)) throw standsStill();
  }

  /** One pass, nothing if one is under way: a look at the disk, unless there is or was little room. Never throws. */
  async pass(capsules: readonly Capsule[]): Promise<void> {
    if (this.#isPassing) return;
    this.#isPassing = true;
    try {
      await this.#pass(capsules);
    } catch (error) {
      this.#parts.log.warn("stalls.pass-failed", { error });
    }
    this.#isPassing = false;
  }

  async #pass(capsules: readonly Capsule[]): Promise<void> {
    // On the disk that the capsules' disks are on.
    const { bavail, bsize } = await statfs(this.#parts.logsDir);
    const freeBytes = bavail * bsize;
    if (this.#parts.disks.losesWrites) return await this.#passHolding(freeBytes, capsules);
    const isShort = freeBytes < STALL_SHORT_BYTES;
    const isDue = isShort || this.#wasShort;
    this.#wasShort = isShort;
    const hasRoom = freeBytes >= STALL_ROOM_BYTES_MIN;
    const standing = new Set<string>();
    for (const capsule of isDue ? capsules : []) {
      if (hasRoom) await this.#letRunOn(capsule);
      else if (await this.#isStalled(capsule)) standing.add(capsule.spec.id);
    }
    this.#tell(standing, capsules);
  }

  /** Each time: what was asked between the look at them and now is under way, too. */
  #tell(standing: ReadonlySet<string>, capsules: readonly Capsule[]): void {
    this.#standing = standing;
    for (const { spec, progress } of capsules) {
      if (standing.has(spec.id)) progress.guest?.cutOff(standsStill());
    }
  }

  async #passHolding(freeBytes: number, capsules: readonly Capsule[]): Promise<void> {
    const { disks, log } = this.#parts;
    const isLow = freeBytes < ROOM_LOW_BYTES;
    if (isLow && !this.#isLow) log.warn("stalls.room-low", { freeBytes });
    this.#isLow = isLow;
    const wasHolding = this.#isHolding;
    const isHolding = freeBytes < (wasHolding ? HOLD_END_BYTES : HOLD_BYTES);
    if (isHolding) await disks.hold();
    else if (wasHolding !== false) await disks.release();
    if (isHolding && !wasHolding) log.warn("stalls.held", { freeBytes });
    if (!isHolding && wasHolding) log.warn("stalls.released", { freeBytes });
    this.#isHolding = isHolding;
    const running = capsules.filter(
      ({ progress, state }) => progress.vmm !== null && RUNNING.has(state.status),
    );
    this.#tell(new Set(isHolding ? running.map(({ spec }) => spec.id) : []), capsules);
  }

  async #isStalled({ spec: { id }, state, progress }: Capsule): Promise<boolean> {
    if (progress.vmm === null || !RUNNING.has(state.status)) return false;
    const { vmm, log, runDir } = this.#parts;
    try {
      const isStalled = await vmm.isStalled(capsuleRunDir(runDir, id));
      if (isStalled && !this.#standing.has(id)) log.warn("capsule.stalled", { capsule: id });
      return isStalled;
    } catch (error) {
      log.warn("capsule.stall-unclear", { capsule: id, error });
      return false;
    }
  }

  async #letRunOn(capsule: Capsule): Promise<void> {
    if (capsule.progress.vmm === null || !RUNNING.has(capsule.state.status)) return;
    const { vmm, log, runDir, failpoints } = this.#parts;
    const { id } = capsule.spec;
    const dir = capsuleRunDir(runDir, id);
    const untold = join(dir, UNTOLD);
    try {
      const wasUntold = (await stat(untold).catch(() => null)) !== null;
      await writeFile(untold, "");
      failpoints.reach("stall.after-mark");
      const isOver = await vmm.endStall(dir);
      if (isOver) {
        failpoints.reach("stall.after-continue");
        log.warn("capsule.stall-ended", { capsule: id });
      }
      if ((isOver || wasUntold) && capsule.state.status === "running") {
        await this.#pauses.wake(capsule);
        failpoints.reach("stall.after-wake");
      }
      await rm(untold);
    } catch (error) {
      log.warn("capsule.stall-unclear", { capsule: id, error });
    }
  }
}

function standsStill(): AgentError {
  const message = "The capsule stands still until there is room on its host's disk";
  return new AgentError("resource_exhausted", message, { subject: "host" });
}
