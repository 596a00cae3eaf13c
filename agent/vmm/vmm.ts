/**
 * What the agent asks of a virtual machine monitor, whichever it is.
 *
 * A VMM is a process with a keeper (native/keeper) as its parent; both outlive the agent. A driver
 * composes its command line and speaks its control protocol, nothing else: processes, logs, jail and
 * adoption are the same for all (start-keeper.ts, kept-process.ts).
 *
 * Snapshots will add four methods and one capability, and this file is laid out so that they fit:
 *
 * - `pause(process)` stops the vCPUs and `resume(process)` lets them run. QEMU: QMP stop and cont.
 *   Firecracker: PATCH /vm. Cloud Hypervisor: PUT vm.pause and vm.resume.
 * - `saveState(process, { dir })`, MUST be called while paused. It writes what the VMM holds besides
 *   guest RAM into `dir` and tells where RAM is: `{ ram: "in place" }` if the RAM file of the run
 *   directory is all of it (QEMU with x-ignore-shared, Cloud Hypervisor with shared zones), or
 *   `{ ram: "in dir", full: boolean }` if the VMM wrote it out itself (Firecracker).
 * - `restore(spec, { dir, memory })` instead of `boot(spec)`: the same spec and the same command
 *   line, since a restored guest must find the same devices, plus where memory comes from:
 *   `{ kind: "map", ramFile }` or `{ kind: "uffd", socket }`, the pager's. It returns a paused
 *   process. QEMU: -incoming defer; Firecracker: PUT /snapshot/load; Cloud Hypervisor: --restore.
 *   The jail shows every file under a fixed name (/vm/disk, /vm/ram), so paths that a VMM records
 *   in its state hold on any host.
 * - `capabilities.restore: readonly ("map" | "uffd")[]` says which of them the driver can do.
 *
 * The control socket is in the run directory and accepts one connection at a time, so a driver
 * connects for each operation and keeps no state between them: that is what makes `adopt` enough
 * after a restart of the agent.
 */
import type { CapsuleCgroup, CgroupLimits } from "../cgroups/cgroups.ts";
import type { GuestKernel } from "./guest-kernel.ts";

export interface CapsuleShape {
  readonly vcpus: number;
  readonly memoryMib: number;
}

export interface VmmSpec extends CapsuleShape {
  readonly capsuleId: string;
  /** $WRENN_DIR/run/<capsule id>: exists, is empty, is root's alone. */
  readonly runDir: string;
  readonly kernel: GuestKernel;
  /** Words for the guest's kernel command line, such as `wrenn.capsule=<id>`. */
  readonly cmdlineExtra: readonly string[];
  /** A file or block device of `uid`, mode 0600. */
  readonly rootDisk: string;
  /** Name below /run/netns. */
  readonly netns: string;
  readonly tap: string;
  /** User and group of the VMM. */
  readonly uid: number;
  /** Where the guest's console goes; `<consoleLog>.1` holds what came before. */
  readonly consoleLog: string;
  readonly cgroup: CapsuleCgroup;
}

/** How a VMM ended. "unknown": nobody was left to see it. */
export interface VmmExit {
  readonly reason: "exited" | "signaled" | "unknown";
  /** Exit status or signal number; -1 if unknown. */
  readonly status: number;
  /** For the log: whether it was asked to, and its last words. */
  readonly detail: string;
}

export interface VmmProcess {
  readonly pid: number;
  /** Clock ticks since boot, as in field 22 of /proc/<pid>/stat. With the pid it is unique. */
  readonly startTime: string;
  readonly keeperPid: number;
  readonly keeperStartTime: string;
  /** Resolves once neither the VMM nor its keeper is left. Never rejects. */
  readonly exited: Promise<VmmExit>;
  /**
   * Ends the VMM (SIGTERM, then SIGKILL) and waits until nothing of it is left. May be called
   * again and after its end. Throws VmmError if it does not end within the bound.
   */
  kill(): Promise<VmmExit>;
}

export interface Vmm {
  readonly name: "qemu";
  readonly version: string;
  readonly accel: "kvm" | "tcg";
  /** What a capsule of this shape may use, the VMM's own needs included. */
  limits(shape: CapsuleShape): CgroupLimits;
  /**
   * Starts a guest and returns once its vCPUs run. Throws VmmError; then no process is left, and
   * the files in the run directory stay for whoever wants to know why.
   */
  boot(spec: VmmSpec): Promise<VmmProcess>;
  /**
   * The VMM that lives in a run directory, or null if there is none. After null none will ever
   * appear there: a start that an earlier agent had begun is called off.
   */
  adopt(runDir: string): Promise<VmmProcess | null>;
}

/** A VMM did not do what was asked. The message may name host paths: it is for the log. */
export class VmmError extends Error {
  override readonly name = "VmmError";
}
