/**
 * Pausing and resuming capsules, below everything that a capsule is besides its VMM.
 *
 * A pause is answered when the guest is stopped and its device state, some 53 KB, is written: the
 * time to answer does not grow with memory. Its memory stays where it is, in the stopped VMM or its
 * RAM file, until sealing has made a generation of it. So a capsule that is paused is either held by
 * its stopped VMM, and resumed by letting that run, or durable, and its VMM can be ended.
 *
 * No state is kept here but which capsules are being sealed: everything else is in the run directory
 * and the snapshots directory, and each call can be repeated, by a later agent too.
 */

import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { Failpoints } from "../failpoints.ts";
import { isMemoryDamaged } from "../memory/pager-verdict.ts";
import type { Kernel } from "../native/kernel.ts";
import type { Vmm, VmmProcess, VmmSpec } from "../vmm/vmm.ts";
import { CapsuleDir, isCapsuleId } from "./capsule-dir.ts";
import { type Draft, draftMemory } from "./draft.ts";
import { makeAnew, removeDirectory, sweepUnfinished } from "./durable-files.ts";
import { explainFailure } from "./explain-failure.ts";
import { FlatFiles } from "./flat-files.ts";
import { type Generation, Generations } from "./generations.ts";
import { type HostFacts, readHostFacts } from "./host-facts.ts";
import type { LiveCapsule } from "./live.ts";
import { type PauseNote, readPauseNote, removePauseNote, writePauseNote } from "./pause-note.ts";
import { assertPauseSpace } from "./pause-space.ts";
import { checkFits, memoryToRestore, type RestoreMode } from "./restore-memory.ts";
import { sealPaused } from "./seal.ts";
import { SnapshotError, toSnapshotError } from "./snapshot-error.ts";

export type { Generation } from "./generations.ts";
export type { LiveCapsule } from "./live.ts";

/** The one that a crash falls back to while the newest is in use, and the newest. */
const GENERATIONS_KEPT = 2;
/** Of generations that somebody reads, whatever becomes of their capsule. */
const HELD_PREFIX = "held.";

export interface HeldGeneration extends AsyncDisposable {
  readonly generation: Generation;
}

export interface SealOptions {
  readonly draft?: Draft | null;
  /** The guest is to run on, and does when this is called: all of it has been read. */
  readonly copied?: () => Promise<void>;
}

interface Sealing {
  isAbandoned: boolean;
  readonly ended: Promise<void>;
}

export class Snapshots {
  /** What a snapshot that is made here depends on. */
  readonly host: HostFacts;
  readonly #dir: string;
  readonly #kernel: Kernel;
  readonly #vmm: Vmm;
  readonly #generations: Generations;
  readonly #flatFiles: FlatFiles;
  readonly #failpoints: Failpoints;
  readonly #sealing = new Map<string, Sealing>();

  private constructor(options: {
    dir: string;
    host: HostFacts;
    kernel: Kernel;
    vmm: Vmm;
    generations: Generations;
    flatFiles: FlatFiles;
    failpoints: Failpoints;
  }) {
    this.host = options.host;
    this.#dir = options.dir;
    this.#kernel = options.kernel;
    this.#vmm = options.vmm;
    this.#generations = options.generations;
    this.#flatFiles = options.flatFiles;
    this.#failpoints = options.failpoints;
  }

  /**
   * `dir` is $WRENN_DIR/snapshots, `flatDir` $WRENN_DIR/flat; both are made if missing and MUST be
   * on one file system, with the root disks. Removes what a crash left half removed, and what was held.
   */
  static async open(options: {
    dir: string;
    flatDir: string;
    kernel: Kernel;
    vmm: Vmm;
    failpoints?: Failpoints;
  }): Promise<Snapshots> {
    const { dir, flatDir, kernel, vmm, failpoints = new Failpoints(null) } = options;
    const host = await readHostFacts(vmm);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const flatFiles = await FlatFiles.open({ dir: flatDir, bootId: host.bootId, kernel });
    const generations = new Generations(kernel, host, failpoints);
    const parts = { dir, host, kernel, vmm, generations, flatFiles, failpoints };
    const snapshots = new Snapshots(parts);
    await sweepUnfinished(dir, HELD_PREFIX);
    for (const capsuleId of await snapshots.list()) await snapshots.#of(capsuleId).sweep();
    return snapshots;
  }

  /** The ids of capsules that have anything here. */
  async list(): Promise<string[]> {
    return (await readdir(this.#dir)).filter(isCapsuleId);
  }

  /**
   * Stops the guest and saves its device state: then the capsule is paused, and not yet durable.
   * `freeze` has the guest ready for that, while everything else is made ready; when this returns or
   * throws it has ended. Throws what it throws, and SnapshotError: the guest runs on, except with
   * vmm_lost.
   */
  async pause(
    capsule: LiveCapsule,
    freeze: () => Promise<void> = async () => {},
  ): Promise<{ generation: number }> {
    const dir = this.#of(capsule.capsuleId);
    await this.#sealing.get(capsule.capsuleId)?.ended;
    // The VMM is left alone before both.
    let [isBegun, isFrozen] = [false, false];
    const frozen = freeze().then(() => {
      isFrozen = true;
    });
    // It is awaited below, which may be after it failed.
    frozen.catch(() => {});
    try {
      await assertPauseSpace(this.#dir, capsule.process.pid);
      const generation = await dir.begin();
      isBegun = true;
      this.#failpoints.reach("pause.after-begin");
      const saving = { dir: dir.unfinished, isReady: frozen };
      const memory = await this.#vmm.pauseAndSave(capsule.runDir, saving);
      const pausedAt = new Date().toISOString();
      this.#failpoints.reach("pause.after-state");
      await writePauseNote(capsule.runDir, { generation, pausedAt, memory });
      return { generation };
    } catch (error) {
      if (isBegun && isFrozen) await this.#undoPause(capsule, error);
      else await dir.forgetUnfinished();
      await frozen;
      throw await this.#explain(capsule, "pause", error);
    }
  }

  /**
   * Saves what can be saved of a guest that runs, so that sealing it right after a pause takes little;
   * null if that cannot be. Goes when it is disposed. Throws SnapshotError; nothing is left then.
   */
  async draft(capsule: LiveCapsule): Promise<Draft | null> {
    try {
      const memory = await this.#vmm.memoryOf(capsule.runDir);
      return await draftMemory(this.#kernel, capsule, { memory, dir: this.#of(capsule.capsuleId) });
    } catch (error) {
      throw await this.#explain(capsule, "save", error);
    }
  }

  /**
   * Makes a paused capsule durable. Its VMM MUST stay stopped meanwhile, but for resumeLive. May be
   * called again after a failure or a restart of the agent. Throws SnapshotError: no_space and others
   * leave the capsule paused as it was, abandoned means that it was resumed, vmm_lost that the VMM
   * ended, not_paused that there is nothing to seal.
   */
  async seal(capsule: LiveCapsule, options: SealOptions = {}): Promise<Generation> {
    const { capsuleId } = capsule;
    if (this.#sealing.has(capsuleId)) {
      throw new SnapshotError("failed", `${capsuleId} is being sealed already`);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const sealing: Sealing = { isAbandoned: false, ended: promise };
    this.#sealing.set(capsuleId, sealing);
    try {
      return await this.#seal(capsule, sealing, options);
    } finally {
      this.#sealing.delete(capsuleId);
      resolve();
    }
  }

  /**
   * Lets a paused guest run on, at once: sealing under way is given up, what was sealed stays. Throws
   * SnapshotError vmm_lost or failed; may be called again.
   */
  async resumeLive(capsule: LiveCapsule): Promise<void> {
    const sealing = this.#sealing.get(capsule.capsuleId);
    if (sealing !== undefined) sealing.isAbandoned = true;
    try {
      await this.#vmm.resume(capsule.runDir);
    } catch (error) {
      throw await this.#explain(capsule, "resume", error);
    }
    await removePauseNote(capsule.runDir);
    if (sealing === undefined) await this.#of(capsule.capsuleId).forgetUnfinished();
  }

  /**
   * running; paused: seal again, or resumeLive; stopped: by a pause or a restore that was not
   * finished. Throws VmmError if the VMM does not answer.
   */
  async state(capsule: LiveCapsule): Promise<"running" | "paused" | "stopped"> {
    if (await this.#vmm.isRunning(capsule.runDir)) return "running";
    return (await readPauseNote(capsule.runDir)) === null ? "stopped" : "paused";
  }

  /** The newest generation that is whole, and why newer ones are refused. */
  async latest(
    capsuleId: string,
  ): Promise<{ generation: Generation | null; refused: SnapshotError[] }> {
    const dir = this.#of(capsuleId);
    const refused: SnapshotError[] = [];
    for (const number of await dir.numbers()) {
      try {
        return { generation: await this.load(dir.generation(number)), refused };
      } catch (error) {
        refused.push(toSnapshotError(`Cannot load generation ${number} of ${capsuleId}`, error));
      }
    }
    return { generation: null, refused };
  }

  /** The generations that a capsule has, whole or not, newest first. */
  async listOf(capsuleId: string): Promise<{ number: number; directory: string }[]> {
    const dir = this.#of(capsuleId);
    return (await dir.numbers()).map((number) => ({ number, directory: dir.generation(number) }));
  }

  /** Checks a generation anywhere. Throws SnapshotError: not_found, damaged, incompatible. */
  load(directory: string): Promise<Generation> {
    return this.#generations.load(directory);
  }

  /**
   * Starts a VMM with a generation's guest, which runs on. `spec` is as for a boot, of the shape and
   * with the guest kernel that the generation names, and the root disk a copy of the generation's or
   * what the capsule was paused with. Throws SnapshotError; then no process is left.
   */
  async restore(options: {
    spec: VmmSpec;
    generation: Generation;
    mode?: RestoreMode;
  }): Promise<VmmProcess> {
    const { spec, generation } = options;
    checkFits(spec, generation);
    const dir = this.#of(spec.capsuleId);
    try {
      await mkdir(dir.path, { recursive: true, mode: 0o700 });
      await makeAnew(dir.base);
      await this.#generations.linkMemory(generation, dir.base);
      const hasFlat = await this.#flatFiles.has(generation);
      const wanted = options.mode ?? (hasFlat ? "map" : "uffd");
      const mode = this.#vmm.takesPager ? wanted : "map";
      const memory = await memoryToRestore(mode, { ...options, dir, flatFiles: this.#flatFiles });
      const process = await this.#vmm.restore(spec, { dir: generation.directory, memory });
      await this.#run(spec, process);
      return process;
    } catch (error) {
      await removeDirectory(dir.base);
      const what = `Cannot restore ${spec.capsuleId}`;
      if (!(await isMemoryDamaged(spec.runDir))) throw toSnapshotError(what, error);
      throw new SnapshotError("damaged", `${what}: ${String(error)}`, { cause: error });
    }
  }

  /**
   * The generation under a name of its own, which stays whatever becomes of the capsule that it is
   * of; until it is disposed, or the next start. Throws SnapshotError. Its disposal never rejects: what came of
   * it is done, and what is left of it goes at the next start.
   */
  async hold(generation: Generation): Promise<HeldGeneration> {
    const directory = join(this.#dir, `${HELD_PREFIX}${crypto.randomUUID()}`);
    const held = await this.#generations.link(generation, directory);
    const dispose = () => removeDirectory(directory).catch(() => {});
    return { generation: held, [Symbol.asyncDispose]: dispose };
  }

  /**
   * Makes the flat file that restoring by `map` wants, ahead of time; beside what is held, to go with it.
   * Throws SnapshotError.
   */
  async prepareMap(generation: Generation, place: "kept" | "beside" = "kept"): Promise<void> {
    const files = this.#flatFiles;
    try {
      await (place === "kept" ? files.obtain(generation) : files.makeBeside(generation));
    } catch (error) {
      throw toSnapshotError(`Cannot make ${generation.directory} flat`, error);
    }
  }

  /**
   * Copies a generation to a directory on the same file system, such as a template's: it shares the
   * memory's layers and the disk's extents. Throws SnapshotError: exists, no_space, failed.
   */
  async publish(options: { from: Generation; directory: string }): Promise<Generation> {
    return this.#generations.copy(options.from, options.directory);
  }

  /** Removes a generation, such as a template's; VMs that were restored from it go on. Idempotent. */
  async remove(directory: string): Promise<void> {
    await removeDirectory(directory);
  }

  /** Removes what only the capsule's VMM needed here, which MUST have ended. Idempotent. */
  async forgetVmm(capsuleId: string): Promise<void> {
    await this.#of(capsuleId).forgetVmm();
  }

  /** Removes all that a capsule has here; its VMM must have ended. Idempotent. */
  async removeCapsule(capsuleId: string): Promise<void> {
    await this.#sealing.get(capsuleId)?.ended;
    await removeDirectory(this.#of(capsuleId).path);
  }

  #of(capsuleId: string): CapsuleDir {
    return new CapsuleDir(this.#dir, capsuleId);
  }

  async #seal(
    capsule: LiveCapsule,
    sealing: Sealing,
    { draft = null, copied }: SealOptions,
  ): Promise<Generation> {
    const dir = this.#of(capsule.capsuleId);
    const pause = await readPauseNote(capsule.runDir);
    if (pause === null) throw new SnapshotError("not_paused", `${capsule.capsuleId} is not paused`);
    const checkStopped = () => {
      if (sealing.isAbandoned) throw new SnapshotError("abandoned", "The capsule was resumed");
    };
    try {
      if (await this.#vmm.isRunning(capsule.runDir)) {
        throw new SnapshotError("not_paused", `${capsule.capsuleId} runs`);
      }
      const sealed = await this.#find(dir, pause);
      if (sealed !== null) return sealed;
      const generation = await sealPaused(capsule, pause, {
        ...{ kernel: this.#kernel, generations: this.#generations, failpoints: this.#failpoints },
        ...{ dir, checkStopped, draft },
        copied: async () => {
          if (copied === undefined) return;
          await this.#vmm.resume(capsule.runDir);
          await removePauseNote(capsule.runDir);
          await copied();
        },
      });
      await dir.prune(GENERATIONS_KEPT, async (directory) => {
        return (
          directory === generation.directory || !(await this.#generations.isDamaged(directory))
        );
      });
      this.#failpoints.reach("seal.after-prune");
      return generation;
    } catch (error) {
      if (sealing.isAbandoned) {
        await dir.forgetUnfinished();
        checkStopped();
      }
      throw await this.#explain(capsule, "seal", error);
    }
  }

  /** What an agent sealed that died before it could say so. */
  async #find(dir: CapsuleDir, pause: PauseNote): Promise<Generation | null> {
    const directory = dir.generation(pause.generation);
    if (!existsSync(directory)) return null;
    const generation = await this.load(directory);
    return generation.manifest.pausedAt === pause.pausedAt ? generation : null;
  }

  #explain(capsule: LiveCapsule, what: string, error: unknown): Promise<SnapshotError> {
    return explainFailure(capsule, { what, error, dir: this.#dir });
  }

  async #undoPause(capsule: LiveCapsule, cause: unknown): Promise<void> {
    try {
      await this.#vmm.resume(capsule.runDir);
    } catch {
      const exit = await capsule.process.kill();
      const message = `Cannot pause ${capsule.capsuleId}, nor let it run on: ${exit.detail}`;
      throw new SnapshotError("vmm_lost", message, { cause });
    } finally {
      await removePauseNote(capsule.runDir);
      await this.#of(capsule.capsuleId).forgetUnfinished();
    }
  }

  async #run(spec: VmmSpec, process: VmmProcess): Promise<void> {
    try {
      await this.#vmm.resume(spec.runDir);
    } catch (error) {
      await process.kill();
      throw error;
    }
  }
}
