// Resuming: the VMM that is still there runs on if its memory was not yet sealed; otherwise a new one
// starts from the newest whole generation, or boots the disk if that is asked for. The guest gets fresh
// entropy, the time, its names and token before its user's processes run. A failure leaves the capsule
// as it was, with the disk that it had.

import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { endedPause, isEnded } from "../journal/pause-record.ts";
import {
  buildCapsule,
  type CapsuleSource,
  connectGuest,
  identityOf,
  newProgress,
} from "../machine/build-capsule.ts";
import { capsuleRunDir } from "../machine/capsule-paths.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { liveCapsule } from "../machine/live-capsule.ts";
import { isMemoryDamaged } from "../memory/pager-verdict.ts";
import type { Semaphore } from "../semaphore.ts";
import type { Generation } from "../snapshots/snapshots.ts";
import type { Capsule } from "./capsule.ts";
import { isGenerationUnusable, noGeneration, snapshotFailure } from "./capsule-errors.ts";
import type { Pauses } from "./pauses.ts";

/** More than are ever kept of a capsule. */
const GENERATIONS_MAX = 16;

/** memory: of its last pause. previous_memory: of an older one. disk: booted. */
export type ResumedFrom = "memory" | "previous_memory" | "disk";

export interface ResumeRequest {
  readonly operationId: string;
  /** Boots the disk and drops the memory. */
  readonly isCold: boolean;
  /** What the capsule's spec is to say from now on. */
  readonly settings: Pick<
    CapsuleSpec,
    "timeoutSec" | "defaultUser" | "defaultEnvs" | "accessToken"
  >;
}

export class Resumes {
  readonly #parts: HostParts;
  readonly #pauses: Pauses;
  readonly #boots: Semaphore;

  constructor(parts: HostParts, options: { pauses: Pauses; boots: Semaphore }) {
    this.#parts = parts;
    this.#pauses = options.pauses;
    this.#boots = options.boots;
  }

  /** Of a paused capsule, or of one whose VMM ended. Throws AgentError; it is what it was then. */
  async resume(capsule: Capsule, request: ResumeRequest): Promise<ResumedFrom> {
    const { sealing } = capsule;
    capsule.status = "resuming";
    // The pause is done for good, or its VMM is lost: either way its last word is awaited.
    if (sealing?.isFreeing) await sealing.done;
    const pause = {
      ...(capsule.pause ?? endedPause(this.#parts.now())),
      operationId: request.operationId,
    };
    capsule.abort = new AbortController();
    this.#parts.journal.markPause(capsule.spec.id, "resuming", pause);
    capsule.status = "resuming";
    capsule.pause = pause;
    const startedAt = performance.now();
    const isLive = pause.durableAtMs === null && !request.isCold;
    const from = isLive
      ? await this.#runOn(capsule, { ...capsule.spec, ...request.settings })
      : await this.#restart(capsule, request);
    this.#parts.log.info("capsule.resumed", {
      capsule: capsule.spec.id,
      from,
      isLive,
      ...capsule.progress.timings,
      total_ms: Math.round(performance.now() - startedAt),
    });
    this.#parts.failpoints.reach("resume.after-running");
    return from;
  }

  /** Its VMM was stopped, or was about to run on, when an agent ended. */
  async finishLive(capsule: Capsule): Promise<void> {
    await this.#runOn(capsule, capsule.spec);
  }

  async #runOn(capsule: Capsule, spec: CapsuleSpec): Promise<ResumedFrom> {
    const { failpoints, snapshots } = this.#parts;
    const { progress, sealing, abort } = capsule;
    const live = liveCapsule(this.#parts, capsule.spec, progress.vmm);
    sealing?.abort.abort();
    try {
      failpoints.reach("resume.after-mark");
      await snapshots.resumeLive(live);
      await sealing?.done;
      if (progress.slot === null) throw new Error(`unreachable: ${spec.id} has no slot`);
      progress.guest = connectGuest(this.#parts, spec, this.#parts.network.slot(progress.slot));
      const renewal = { savedToken: capsule.spec.accessToken };
      await progress.guest.init(identityOf(spec), this.#parts.now(), renewal);
      failpoints.reach("resume.after-guest");
      abort.signal.throwIfAborted();
    } catch (error) {
      abort.signal.throwIfAborted();
      await this.#stopAgain(capsule, error);
      throw snapshotFailure(error);
    }
    this.#markRunning(capsule, spec);
    return "memory";
  }

  /** A guest that ran on but did not answer goes back to where it was. */
  async #stopAgain(capsule: Capsule, error: unknown): Promise<void> {
    const { snapshots, journal, log } = this.#parts;
    const { spec, pause, progress } = capsule;
    log.warn("capsule.resume-failed", { capsule: spec.id, error });
    progress.guest?.close("The capsule is paused");
    if (pause === null) throw new Error(`unreachable: ${spec.id} is not paused`);
    const { generation } = await snapshots
      .pause(liveCapsule(this.#parts, spec, progress.vmm))
      .catch((cause: unknown) => {
        // Sealing tells what can be done: its VMM may be gone.
        log.error("capsule.stuck", { capsule: spec.id, error: cause });
        return { generation: pause.generation };
      });
    capsule.pause = { ...pause, generation };
    journal.markPause(spec.id, "paused", capsule.pause);
    capsule.status = "paused";
    this.#pauses.startSealing(capsule);
  }

  async #restart(capsule: Capsule, request: ResumeRequest): Promise<ResumedFrom> {
    const { failpoints } = this.#parts;
    const { signal } = capsule.abort;
    const spec = { ...capsule.spec, ...request.settings };
    try {
      failpoints.reach("resume.after-mark");
      const isDoubted = await isMemoryDamaged(capsuleRunDir(this.#parts.runDir, spec.id));
      await this.#endPause(capsule);
      using _permit = await this.#boots.acquire(signal);
      const sources = this.#sources(capsule, request.isCold);
      const from = await this.#start(capsule, spec, { sources, isDoubted });
      // Nothing is awaited from here on: a destroy comes before this line or finds it running.
      signal.throwIfAborted();
      this.#markRunning(capsule, spec);
      await this.#dropReplaced(spec.id);
      if (from === "disk") await this.#dropMemory(spec.id);
      return from;
    } catch (error) {
      const failure = snapshotFailure(signal.aborted ? signal.reason : error);
      await this.#undo(capsule, error);
      throw failure;
    }
  }

  /** What the pause left running is ended: its memory is durable, or is to be dropped. */
  async #endPause(capsule: Capsule): Promise<void> {
    const { sealing, pause } = capsule;
    if (sealing && !sealing.isFreeing) {
      sealing.abort.abort();
      await capsule.progress.vmm?.kill();
    }
    await sealing?.done;
    await this.#pauses.free(capsule);
    if (pause === null || pause.durableAtMs !== null) return;
    // The disk has what the guest had flushed.
    capsule.pause = { ...pause, durableAtMs: this.#parts.now().getTime(), diskGeneration: null };
  }

  /** What to try, best first; what is not asked for is not loaded. */
  async *#sources(capsule: Capsule, isCold: boolean): AsyncGenerator<CapsuleSource, void, void> {
    const { spec, pause } = capsule;
    const { disks, snapshots, log } = this.#parts;
    const hasDisk = (await disks.list()).includes(spec.id);
    if (isCold && hasDisk) {
      yield { kind: "disk" };
      return;
    }
    const { generation, refused } = await snapshots.latest(spec.id);
    for (const error of refused) log.error("capsule.refused", { capsule: spec.id, error });
    if (generation === null) throw noGeneration(refused[0]);
    const toSource = (generation: Generation): CapsuleSource => ({
      kind: "memory",
      generation,
      isDiskKept: hasDisk && pause?.diskGeneration === generation.manifest.generation,
      savedToken: spec.accessToken,
    });
    yield toSource(generation);
    for (const older of await this.#older(generation)) yield toSource(older);
  }

  async #older(generation: Generation): Promise<Generation[]> {
    const dir = dirname(generation.directory);
    const numbers = (await readdir(dir))
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((number) => number < generation.manifest.generation)
      .sort((a, b) => b - a);
    const loads = numbers.map((number) => this.#parts.snapshots.load(join(dir, String(number))));
    const loaded = await Promise.allSettled(loads);
    return loaded.flatMap((load) => (load.status === "fulfilled" ? [load.value] : []));
  }

  async #start(
    capsule: Capsule,
    spec: CapsuleSpec,
    { sources, isDoubted }: { sources: AsyncIterable<CapsuleSource>; isDoubted: boolean },
  ): Promise<ResumedFrom> {
    const { log, journal, snapshots } = this.#parts;
    const newest = capsule.pause?.generation ?? null;
    let refusal: unknown;
    for await (const source of sources) {
      // Once the guest runs, its disk is no generation's any more.
      if (capsule.pause) capsule.pause = { ...capsule.pause, diskGeneration: null };
      if (capsule.pause) journal.markPause(spec.id, "resuming", capsule.pause);
      capsule.progress = newProgress(capsule.progress);
      const { progress } = capsule;
      try {
        const { signal } = capsule.abort;
        // What was found when a guest wanted it is found again only by reading all.
        if (isDoubted && source.kind === "memory") await snapshots.prepareMap(source.generation);
        await buildCapsule(this.#parts, spec, { verb: "resume", source, progress, signal });
        if (source.kind !== "memory") return "disk";
        return source.generation.manifest.generation === newest ? "memory" : "previous_memory";
      } catch (error) {
        if (!isGenerationUnusable(error)) throw error;
        log.error("capsule.refused", { capsule: spec.id, error });
        refusal = error;
        await this.#pauses.free(capsule);
      }
    }
    throw noGeneration(refusal);
  }

  async #dropReplaced(id: string): Promise<void> {
    try {
      await this.#parts.disks.dropReplaced(id);
    } catch (error) {
      this.#parts.log.warn("capsule.disk-kept", { capsule: id, error });
    }
  }

  /** A disk that went on alone has no memory to go with it. */
  async #dropMemory(id: string): Promise<void> {
    const { log, snapshots } = this.#parts;
    try {
      for (let left = GENERATIONS_MAX; left > 0; left -= 1) {
        const { generation } = await snapshots.latest(id);
        if (generation === null) return;
        await snapshots.remove(generation.directory);
      }
    } catch (error) {
      log.warn("capsule.memory-kept", { capsule: id, error });
    }
  }

  async #undo(capsule: Capsule, error: unknown): Promise<void> {
    const { journal, log } = this.#parts;
    const { spec, pause } = capsule;
    log.warn("capsule.resume-failed", { capsule: spec.id, error, ...capsule.progress.timings });
    // A destroy removes what there is.
    if (capsule.status !== "resuming") return;
    try {
      await this.#pauses.free(capsule);
      await this.#parts.disks.putBack(spec.id);
    } catch (cause) {
      log.error("capsule.stuck", { capsule: spec.id, error: cause });
    }
    if (capsule.status !== "resuming" || pause === null) return;
    if (isEnded(pause)) {
      journal.markFailed(spec.id, capsule.reason);
      capsule.pause = null;
      capsule.status = "error";
      return;
    }
    journal.markPause(spec.id, "paused", capsule.pause ?? pause);
    capsule.status = "paused";
  }

  #markRunning(capsule: Capsule, spec: CapsuleSpec): void {
    this.#parts.journal.markRunning(spec, capsule.progress.envdVersion);
    capsule.spec = spec;
    capsule.status = "running";
    capsule.reason = "";
    capsule.pause = null;
  }
}
