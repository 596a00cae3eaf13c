// Guests that stand still since the host had no room for what they wrote: their VMM stopped them and keeps the
// write, to do it again. As soon as there is room they are let run on.

import { statfs } from "node:fs/promises";
import { STALL_ROOM_BYTES_MIN, STALL_SHORT_BYTES } from "../limits.ts";
import { capsuleRunDir } from "../machine/capsule-paths.ts";
import type { HostParts } from "../machine/host-parts.ts";
import type { Capsule } from "./capsule.ts";
import type { Pauses } from "./pauses.ts";
import type { CapsuleStatus } from "./states.ts";

type StallParts = Pick<HostParts, "vmm" | "log" | "runDir" | "logsDir">;

/** Whose guest is to run. */
const RUNNING: ReadonlySet<CapsuleStatus> = new Set(["starting", "running", "resuming"]);

export class Stalls {
  readonly #parts: StallParts;
  readonly #pauses: Pauses;
  /** An earlier agent may have seen it. */
  #wasShort = true;
  #isPassing = false;

  constructor(parts: StallParts, pauses: Pauses) {
    this.#parts = parts;
    this.#pauses = pauses;
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
    const isShort = freeBytes < STALL_SHORT_BYTES;
    const isDue = isShort || this.#wasShort;
    this.#wasShort = isShort;
    if (!isDue || freeBytes < STALL_ROOM_BYTES_MIN) return;
    for (const capsule of capsules) await this.#letRunOn(capsule);
  }

  async #letRunOn(capsule: Capsule): Promise<void> {
    if (capsule.progress.vmm === null || !RUNNING.has(capsule.state.status)) return;
    const { vmm, log, runDir } = this.#parts;
    const { id } = capsule.spec;
    try {
      if (!(await vmm.endStall(capsuleRunDir(runDir, id)))) return;
      log.warn("capsule.stall-ended", { capsule: id });
      if (capsule.state.status === "running") await this.#pauses.wake(capsule);
    } catch (error) {
      log.warn("capsule.stall-unclear", { capsule: id, error });
    }
  }
}
