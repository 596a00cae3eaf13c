// The control groups that processes of a guest run in, so that none of them can starve envd.
//
// All of them lie below one group, `wrenn`, whose limits leave some memory and some process ids to
// envd and the init, whatever the rest does. Inside it `user` holds commands, `pty` terminals (which
// a person waits for, hence their weight) and `system` what envd runs for its own purposes. Freezing
// stops the first two, so that envd and what it forwards go on.
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import { EnvdError, errnoOf } from "../errors.ts";
import { FREEZE_MS_MAX } from "../limits.ts";

const CONTROLLERS = ["cpu", "memory", "pids", "io"];
const CPU_WEIGHTS = { user: 50, pty: 200, system: 150 } as const;
const FROZEN_KINDS = ["user", "pty"] as const;

/** What processes may not take: an eighth of the memory, at most this. */
const MEMORY_RESERVE_BYTES_MAX = 128 * 1024 * 1024;
/**
 * Processes and threads that may run: by memory, for a fork bomb of more than a guest can hold takes
 * minutes to end, within this share of what the kernel has ids for.
 */
const PIDS_PER_MIB = 8;
const PIDS_MIN = 1024;
const PIDS_SHARE = 0.8;

const OOM_SCORE_ADJ = -900;

const FREEZE_POLL_MS = 1;

export type CgroupKind = keyof typeof CPU_WEIGHTS;

export class Cgroups {
  readonly #dir: string;
  #watchdog: ReturnType<typeof setTimeout> | null = null;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /**
   * Makes the groups below the root of a cgroup2 file system. Null where there is none: processes
   * then stay in envd's own group. Limits of controllers that the kernel lacks are left out.
   */
  static open(root: string): Cgroups | null {
    if (!existsSync(join(root, "cgroup.controllers"))) return null;
    const dir = join(root, "wrenn");
    enableControllers(root);
    mkdirSync(dir, { recursive: true });
    const memoryBytes = totalmem();
    const reserveBytes = Math.min(memoryBytes / 8, MEMORY_RESERVE_BYTES_MAX);
    setLimit(dir, "memory.max", Math.floor(memoryBytes - reserveBytes));
    setLimit(dir, "pids.max", pidsMax(memoryBytes));
    enableControllers(dir);
    for (const [kind, weight] of Object.entries(CPU_WEIGHTS)) {
      mkdirSync(join(dir, kind), { recursive: true });
      setLimit(join(dir, kind), "cpu.weight", weight);
    }
    return new Cgroups(dir);
  }

  /** Removes the groups; nothing may run in them any more. */
  remove(): void {
    for (const kind of Object.keys(CPU_WEIGHTS)) rmdirSync(join(this.#dir, kind));
    rmdirSync(this.#dir);
  }

  /** The file through which a process enters the group. */
  procsFile(kind: CgroupKind): string {
    return join(this.#dir, kind, "cgroup.procs");
  }

  /**
   * Stops all commands and terminals and returns once the kernel says that they stand still. When
   * that takes too long, deadline_exceeded, and they run again. They run again, too, when nobody
   * thaws them in time: a guest must not stay frozen because its host forgot it.
   */
  async freeze(timeoutMs: number, frozenMsMax = FREEZE_MS_MAX): Promise<void> {
    this.#setFrozen(true);
    const deadline = performance.now() + timeoutMs;
    while (!this.#isFrozen()) {
      if (performance.now() > deadline) {
        this.thaw();
        throw new EnvdError("deadline_exceeded", `processes did not freeze in ${timeoutMs} ms`);
      }
      await Bun.sleep(FREEZE_POLL_MS);
    }
    if (this.#watchdog !== null) clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.thaw(), frozenMsMax);
  }

  /** Lets everything run. */
  thaw(): void {
    if (this.#watchdog !== null) clearTimeout(this.#watchdog);
    this.#watchdog = null;
    this.#setFrozen(false);
  }

  #setFrozen(isFrozen: boolean): void {
    for (const kind of FROZEN_KINDS) {
      writeFileSync(join(this.#dir, kind, "cgroup.freeze"), isFrozen ? "1" : "0");
    }
  }

  #isFrozen(): boolean {
    return FROZEN_KINDS.every((kind) =>
      /^frozen 1$/m.test(readFileSync(join(this.#dir, kind, "cgroup.events"), "utf8")),
    );
  }
}

/** Out of memory in the whole guest, the kernel then takes any other process before this one. */
export function protectFromOutOfMemory(): void {
  setLimit("/proc/self", "oom_score_adj", OOM_SCORE_ADJ);
}

function enableControllers(dir: string): void {
  const available = readFileSync(join(dir, "cgroup.controllers"), "utf8").trim().split(/\s+/);
  for (const controller of CONTROLLERS.filter((name) => available.includes(name))) {
    writeFileSync(join(dir, "cgroup.subtree_control"), `+${controller}`);
  }
}

function setLimit(dir: string, file: string, value: number): void {
  try {
    writeFileSync(join(dir, file), String(value));
  } catch (error) {
    // EACCES is how cgroupfs refuses to make a file (the controller is not there), and how procfs
    // refuses a container's root.
    const errno = errnoOf(error);
    if (errno !== "ENOENT" && errno !== "EACCES" && errno !== "EPERM") throw error;
  }
}

function pidsMax(memoryBytes: number): number {
  const byMemory = Math.max(PIDS_MIN, (memoryBytes / 1024 ** 2) * PIDS_PER_MIB);
  const ids = Number(readFileSync("/proc/sys/kernel/pid_max", "utf8"));
  return Math.floor(Math.min(byMemory, ids * PIDS_SHARE));
}
