// What lies where in a capsule's directory of snapshots.

import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { hasCode } from "../native/syscall-error.ts";
import { removeDirectory } from "./durable-files.ts";

const CAPSULE_ID = /^[0-9a-z][0-9a-z-]{0,63}$/;
const GENERATION = /^(0|[1-9][0-9]{0,9})$/;
const UNFINISHED = "paused.partial";
const DRAFT = "draft.partial";
const REMOVED = /\.removed$/;

/** Whether the name of a directory can be a capsule's. */
export function isCapsuleId(name: string): boolean {
  return CAPSULE_ID.test(name);
}

export class CapsuleDir {
  readonly path: string;
  /** The generation under way: device state once the capsule is paused, the rest by sealing. */
  readonly unfinished: string;
  /** Memory that is saved while the guest runs, for the generation that is about to be made. */
  readonly draft: string;
  /** What the living VMM's memory was restored from, whatever becomes of that generation. */
  readonly base: string;

  /** Throws unless the id can be a file's name. */
  constructor(snapshotsDir: string, capsuleId: string) {
    if (!isCapsuleId(capsuleId)) {
      throw new Error(`Cannot use capsule id ${JSON.stringify(capsuleId)} in a file name`);
    }
    this.path = join(snapshotsDir, capsuleId);
    this.unfinished = join(this.path, UNFINISHED);
    this.draft = join(this.path, DRAFT);
    this.base = join(this.path, "base");
  }

  generation(number: number): string {
    return join(this.path, String(number));
  }

  /** Numbers of the generations that have their name, newest first. */
  async numbers(): Promise<number[]> {
    const names = await readdir(this.path).catch((error: unknown) => {
      if (hasCode(error, "ENOENT")) return [];
      throw error;
    });
    return names
      .filter((name) => GENERATION.test(name))
      .map(Number)
      .sort((a, b) => b - a);
  }

  /** Starts an unfinished generation, and forgets one that was there. */
  async begin(): Promise<number> {
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    await this.forgetUnfinished();
    const [newest = -1] = await this.numbers();
    await mkdir(this.unfinished, { mode: 0o700 });
    return newest + 1;
  }

  async forgetUnfinished(): Promise<void> {
    await removeDirectory(this.unfinished);
  }

  /** Leaves only those files of an unfinished generation. */
  async keepOnly(keep: readonly string[]): Promise<void> {
    for (const name of await readdir(this.unfinished)) {
      if (keep.includes(name)) continue;
      await rm(join(this.unfinished, name), { recursive: true, force: true });
    }
  }

  /** Removes all generations but the newest of those that are whole. */
  async prune(kept: number, isWhole: (directory: string) => Promise<boolean>): Promise<void> {
    let left = kept;
    for (const number of await this.numbers()) {
      const directory = this.generation(number);
      if (left > 0 && (await isWhole(directory))) left -= 1;
      else await removeDirectory(directory);
    }
  }

  /** Removes what a crash left of drafts and removals; an unfinished generation may be a living capsule's. */
  async sweep(): Promise<void> {
    for (const name of await readdir(this.path)) {
      if (!REMOVED.test(name) && name !== DRAFT) continue;
      await rm(join(this.path, name), { recursive: true, force: true });
    }
  }

  /** Removes what only a living VMM needs here. */
  async forgetVmm(): Promise<void> {
    await this.forgetUnfinished();
    await removeDirectory(this.base);
  }
}
