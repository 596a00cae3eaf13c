// Where this host keeps the controllers that capsules are limited by: cgroup v1 has a tree for each,
// v2 one for all, and a host may have some in v1 and the rest in v2.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

export const CONTROLLERS = ["memory", "cpu", "pids"] as const;
export type Controller = (typeof CONTROLLERS)[number];

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
 * The trees that hold memory, cpu and pids, each tree once. Throws CgroupError naming the controllers
 * that the host does not have.
 */
export async function findHierarchies(): Promise<Hierarchy[]> {
  const mounts = parseMounts(await readFile("/proc/self/mounts", "utf8"));
  const unified = mounts.find(({ type }) => type === "cgroup2");
  const offered = unified
    ? await readFile(join(unified.mount, "cgroup.controllers"), "utf8").catch(() => "")
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
  const chosen = mounts.flatMap(({ type, mount, options }): Hierarchy[] => {
    const present = type === "cgroup2" ? unified : options;
    const controllers = CONTROLLERS.filter((name) => present.includes(name));
    const version = type === "cgroup2" ? 2 : 1;
    return controllers.length === 0 ? [] : [{ version, mount, controllers }];
  });
  const missing = CONTROLLERS.filter((name) => !chosen.some((h) => h.controllers.includes(name)));
  if (missing.length > 0) {
    throw new CgroupError(`This host has no cgroup controller for ${missing.join(", ")}`);
  }
  return chosen;
}
