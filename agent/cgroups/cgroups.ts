// One control group per capsule, named after it, below one of the agent's own in every tree used.

import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { DiskShare } from "../shares.ts";
import { throttleFiles } from "./disk-throttle.ts";
import { CgroupError, findHierarchies, type Hierarchy } from "./hierarchies.ts";
import { type CgroupLimits, limitFiles } from "./limit-files.ts";

export type { CgroupLimits } from "./limit-files.ts";

export interface CapsuleCgroup {
  /** A process that writes "0" to each of them is limited, with all it starts. */
  readonly procsFiles: readonly string[];
}

// The kernel frees a group some milliseconds after its last process; under load it takes longer.
const REMOVE_TIMEOUT_MS = 10_000;
const REMOVE_POLL_MS = 5;
const REMOVE_POLL_MAX_MS = 200;
const TAG = /^[0-9a-z]{4}$/;
const CAPSULE_ID = /^[A-Za-z0-9-]{1,64}$/;

export class Cgroups {
  readonly #hierarchies: readonly Hierarchy[];
  readonly #name: string;

  private constructor(hierarchies: readonly Hierarchy[], tag: string) {
    if (!TAG.test(tag)) throw new CgroupError(`"${tag}" is no tag`);
    this.#hierarchies = hierarchies;
    this.#name = `wrenn-${tag}`;
  }

  /**
   * Prepares the agent's group in each tree; what is there already stays. Throws CgroupError if the
   * host lacks a controller. Tests give the trees; otherwise the host's are found.
   */
  static async open(tag: string, hierarchies?: readonly Hierarchy[]): Promise<Cgroups> {
    const cgroups = new Cgroups(hierarchies ?? (await findHierarchies()), tag);
    for (const hierarchy of cgroups.#hierarchies) {
      const base = join(hierarchy.mount, cgroups.#name);
      // In v2 a group's children only have the controllers that it passes on.
      if (hierarchy.version === 2) await passOn(hierarchy.mount, hierarchy);
      await mkdir(base, { recursive: true });
      if (hierarchy.version === 2) await passOn(base, hierarchy);
    }
    return cgroups;
  }

  /** Rejects with EEXIST if the capsule has a group. On another failure none is left behind. */
  async create(options: CgroupLimits & { capsuleId: string }): Promise<CapsuleCgroup> {
    const { capsuleId } = options;
    const made: string[] = [];
    try {
      for (const hierarchy of this.#hierarchies) {
        const directory = this.#directory(hierarchy, capsuleId);
        await mkdir(directory);
        made.push(directory);
        await writeLimits(directory, hierarchy, options);
      }
      return this.adopt(capsuleId);
    } catch (error) {
      for (const directory of made) await removeGroup(directory);
      throw error;
    }
  }

  /** Throws CgroupError if the host cannot hold capsules to shares of a disk. */
  requireDiskShares(): void {
    this.#ioHierarchy();
  }

  /**
   * Holds the capsule's group to that share of the disk (`major:minor`), from now on and whatever it was held to
   * before. Throws CgroupError if the host cannot, ENOENT if the capsule has no group.
   */
  async holdDisk(capsuleId: string, device: string, share: DiskShare): Promise<void> {
    const hierarchy = this.#ioHierarchy();
    const directory = this.#directory(hierarchy, capsuleId);
    for (const { name, value } of throttleFiles(hierarchy.version, device, share)) {
      await writeFile(join(directory, name), value);
    }
  }

  /** The group of a capsule that an earlier agent made; does not look whether it is there. */
  adopt(capsuleId: string): CapsuleCgroup {
    const directories = this.#hierarchies.map((hierarchy) => this.#directory(hierarchy, capsuleId));
    return { procsFiles: directories.map((directory) => join(directory, "cgroup.procs")) };
  }

  /** Ids of the capsules that have a group in any tree. */
  async list(): Promise<string[]> {
    const bases = this.#hierarchies.map(({ mount }) => join(mount, this.#name));
    return [...new Set((await Promise.all(bases.map(childGroups))).flat())];
  }

  /**
   * Ends what still runs in the capsule's group and removes it; nothing happens if there is none.
   * Throws CgroupError if the kernel does not let go of it within the bound.
   */
  async remove(capsuleId: string): Promise<void> {
    for (const hierarchy of this.#hierarchies) {
      await removeGroup(this.#directory(hierarchy, capsuleId));
    }
  }

  /** Removes every group with this tag, the agent's own included. Throws as remove does. */
  async removeAll(): Promise<void> {
    for (const capsuleId of await this.list()) await this.remove(capsuleId);
    for (const { mount } of this.#hierarchies) await removeGroup(join(mount, this.#name));
  }

  #ioHierarchy(): Hierarchy {
    const found = this.#hierarchies.find(({ controllers }) => controllers.includes("io"));
    if (found !== undefined) return found;
    throw new CgroupError("This host has no cgroup controller for io (v2) or blkio (v1)");
  }

  #directory(hierarchy: Hierarchy, capsuleId: string): string {
    if (!CAPSULE_ID.test(capsuleId)) throw new CgroupError(`"${capsuleId}" is no capsule id`);
    return join(hierarchy.mount, this.#name, capsuleId);
  }
}

async function passOn(directory: string, { controllers }: Hierarchy): Promise<void> {
  const words = controllers.map((name) => `+${name}`).join(" ");
  await writeFile(join(directory, "cgroup.subtree_control"), words);
}

async function writeLimits(
  directory: string,
  hierarchy: Hierarchy,
  limits: CgroupLimits,
): Promise<void> {
  for (const { name, value, mayBeMissing } of limitFiles(hierarchy, limits)) {
    try {
      await writeFile(join(directory, name), value);
    } catch (error) {
      // Files can't be made in a cgroup tree: the kernel refuses to make one that it lacks.
      if (!mayBeMissing || !(hasCode(error, "EACCES") || hasCode(error, "EPERM"))) throw error;
    }
  }
}

async function childGroups(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  }
}

async function removeGroup(directory: string): Promise<void> {
  const deadline = performance.now() + REMOVE_TIMEOUT_MS;
  for (let wait = REMOVE_POLL_MS; ; wait = Math.min(2 * wait, REMOVE_POLL_MAX_MS)) {
    try {
      await rmdir(directory);
      return;
    } catch (error) {
      if (hasCode(error, "ENOENT")) return;
      if (!hasCode(error, "EBUSY")) throw error;
    }
    if (performance.now() > deadline) throw new CgroupError(`${directory} stays busy`);
    await killMembers(directory);
    await Bun.sleep(wait);
  }
}

async function killMembers(directory: string): Promise<void> {
  const text = await readFile(join(directory, "cgroup.procs"), "utf8").catch(() => "");
  for (const pid of text.split("\n").map(Number)) {
    if (!Number.isSafeInteger(pid) || pid <= 0) continue;
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      if (!hasCode(error, "ESRCH")) throw error;
    }
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
