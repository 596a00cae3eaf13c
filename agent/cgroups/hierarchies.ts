// Where this host keeps the controllers that capsules are limited by: cgroup v1 has a tree for each,
// v2 one for all, and a host may have some in v1 and the rest in v2.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

const CONTROLLERS = ["memory", "cpu", "pids", "io"] as const;
export type Controller = (typeof CONTROLLERS)[number];
/** What a host may lack: without it there are no shares of the disk. */
const OPTIONAL: readonly Controller[] = ["io"];
/** Their other names in v1. */
const V1_NAMES: Partial<Record<Controller, string>> = { io: "blkio" };

export interface Hierarchy {
  readonly version: 1 | 2;
  /** Mount point, such as /sys/fs/cgroup or /sys/fs/cgroup/memory. */
  readonly mount: string;
  readonly controllers: readonly Controller[];
}

/** The host cannot limit what capsules use. */
export class CgroupError extends Error {
  override readonly name = "CgroupError";
}

/**
 * The trees that hold memory, cpu and pids, and io where there is one, each tree once. Throws CgroupError
 * naming the controllers that the host does not have. `root` is `/` but for tests.
 */
export async function findHierarchies(root = "/"): Promise<Hierarchy[]> {
  const mounts = parseMounts(await readFile(join(root, "proc/self/mounts"), "utf8"));
  const unified = mounts.find(({ type }) => type === "cgroup2");
  const offered = unified
    ? await readFile(join(root, unified.mount, "cgroup.controllers"), "utf8").catch(() => "")
    : "";
  return chooseHierarchies(mounts, offered.trim().split(" "));
}

export interface CgroupMount {
  readonly type: "cgroup" | "cgroup2";
  readonly mount: string;
  readonly options: readonly string[];
}

/** Exported for its test: the cgroup lines of /proc/self/mounts. */
export function parseMounts(text: string): CgroupMount[] {
  return text.split("\n").flatMap((line) => {
    const [, mount = "", type = "", options = ""] = line.split(" ");
    if (type !== "cgroup" && type !== "cgroup2") return [];
    return [{ type, mount, options: options.split(",") }];
  });
}

/** Exported for its test. `unified` are the controllers that the v2 tree has. */
export function chooseHierarchies(
  mounts: readonly CgroupMount[],
  unified: readonly string[],
): Hierarchy[] {
  const chosen: Hierarchy[] = [];
  const wanted = new Set(CONTROLLERS);
  for (const { type, mount, options } of mounts) {
    const present = type === "cgroup2" ? unified : options;
    // A tree may be mounted again elsewhere, for a container say: the first mount is used.
    const inTree = (name: Controller) => (type === "cgroup" && V1_NAMES[name]) || name;
    const controllers = CONTROLLERS.filter(
      (name) => wanted.has(name) && present.includes(inTree(name)),
    );
    if (controllers.length > 0)
      chosen.push({ version: type === "cgroup2" ? 2 : 1, mount, controllers });
    for (const name of controllers) wanted.delete(name);
  }
  for (const name of OPTIONAL) wanted.delete(name);
  if (wanted.size > 0) {
    throw new CgroupError(`This host has no cgroup controller for ${[...wanted].join(", ")}`);
  }
  return chosen;
}
