/**
 * What the agent asks of a virtual machine monitor, whichever it is.
 *
 * A VMM is a process with a keeper (native/keeper) as its parent; both outlive the agent. A driver
 * composes its command line and speaks its control protocol, nothing else: processes, logs, jail and
 * adoption are the same for all (start-keeper.ts, kept-process.ts).
 *
 * What each answers (API documents of Firecracker 1.12 and Cloud Hypervisor 50):
 *
 * - name, accel. "qemu" with kvm or tcg; "firecracker" and "cloud-hypervisor" with kvm only.
 * - pause, resume. QEMU: stop, cont. Firecracker: PATCH /vm. Cloud Hypervisor: PUT vm.pause, vm.resume.
 * - hold. Firecracker: PATCH /drives, PATCH /network-interfaces. The others leave it to the host.
 * - pauseAndSave. None writes RAM: QEMU (migrate with x-ignore-shared) leaves out what it shares;
 *   Firecracker (PUT /snapshot/create) and Cloud Hypervisor (vm.snapshot) write their state first and
 *   have nowhere to write memory. All answer what memoryOf does.
 * - memoryOf, booted. QEMU and Cloud Hypervisor: the RAM file in the run directory, which they share.
 *   Firecracker shares none: `anonymous`.
 * - memoryOf, restored by `map`. All map the file privately: `map`.
 * - memoryOf, restored by `uffd`. QEMU (with the preload shim) and Firecracker: `uffd`. Cloud Hypervisor
 *   has a pager of its own for its own format of memory, and takes no other.
 *
 * restore takes the place of boot: -incoming, PUT /snapshot/load, --restore. The jail shows every file
 * under a fixed name (/vm/disk, /vm/ram), so paths that a VMM records in its state hold on any host.
 *
 * The control socket is in the run directory, or in the VMM's own directory there, and may accept one
 * connection at a time, so a driver connects for each operation and keeps no state between them: that
 * is what makes `adopt` enough after a restart of the agent.
 */
import type { CapsuleCgroup, CgroupLimits } from "../cgroups/cgroups.ts";
import type { DiskShare, NetworkShare } from "../shares.ts";

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

/** Where a restored guest's memory comes from. docs/memory.md says when which. */
export type GuestMemory =
  /** A flat file, mapped privately: readable by all, written by nobody. */
  | { readonly kind: "map"; readonly file: string }
  | { readonly kind: "uffd"; readonly pager: PagerSpec };

/** What a pager serves, and as whom: a user that is nobody else. */
export interface PagerSpec {
  readonly header: string;
  readonly layerDirectories: readonly string[];
  readonly uid: number;
  /** A list of pages to bring before the guest runs. A torn one costs the prefetch only. */
  readonly workingSet: string | null;
}

/** Where the memory of a living guest is to be read from. */
export type LiveMemory =
  /** A file that is all of it; its holes were never touched. */
  | { readonly kind: "file"; readonly path: string }
  /** The VMM's process: what the guest wrote is its own, over the file that it maps privately. */
  | { readonly kind: "map"; readonly file: string }
  /** The same over what a pager brings, which knows where the process has it. */
  | { readonly kind: "uffd" }
  /** The VMM's process, and no file: all that it has there is the guest's. */
  | { readonly kind: "anonymous"; readonly regions: MemoryRegion[] };

/** Of a guest's memory, in its VMM. */
export interface MemoryRegion {
  readonly address: number;
  readonly size: number;
  /** In a flat file of the guest's memory. */
  readonly offset: number;
}

/** What a guest's devices may use of the host's. */
export interface DeviceShares {
  readonly disk: DiskShare;
  readonly network: NetworkShare;
}

export interface SavedGuest {
  /** What saveState wrote. */
  readonly dir: string;
  readonly memory: GuestMemory;
}

/** How a VMM ended. "unknown": nobody was left to see it. */
export interface VmmExit {
  /** "pager": it lost the one that brought its memory, or was ended by it. */
  readonly cause: "vmm" | "pager";
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
  /** As manifests of snapshots name it; it never changes. */
  readonly name: string;
  readonly version: string;
  readonly accel: "kvm" | "tcg";
  /** The processor that guests see, by the VMM's name for it; null: the host's own. */
  readonly cpu: string | null;
  /** Whether it restores a guest whose memory a pager brings (`uffd`); a flat file it takes in any case. */
  readonly takesPager: boolean;
  /** What a capsule of this shape may use, the VMM's own needs included. */
  limits(shape: CapsuleShape): CgroupLimits;
  /**
   * Starts a guest and returns once its vCPUs run. Throws VmmError; then no process is left, and
   * the files in the run directory stay for whoever wants to know why.
   */
  boot(spec: VmmSpec): Promise<VmmProcess>;
  /**
   * Starts a VMM with a guest that was saved under the same shape, kernel and devices. It returns
   * with the vCPUs stopped; `resume` lets them run. Otherwise as boot.
   */
  restore(spec: VmmSpec, saved: SavedGuest): Promise<VmmProcess>;
  /** Stops the vCPUs. Nothing happens if they are. Throws VmmError; they may run then. */
  pause(runDir: string): Promise<void>;
  /** Lets the vCPUs run, after a pause, a save or a restore. Nothing happens if they do. */
  resume(runDir: string): Promise<void>;
  isRunning(runDir: string): Promise<boolean>;
  /** Whether the VMM stopped the guest by itself, since the host had no room for what it wrote. Throws VmmError. */
  isStalled(runDir: string): Promise<boolean>;
  /**
   * Lets a guest run on that the VMM stopped by itself, since the host had no room for what it wrote: that is
   * written then. False, and nothing happens, if it stands still for another reason, or not at all. Throws
   * VmmError.
   */
  endStall(runDir: string): Promise<boolean>;
  /**
   * Holds the guest's devices to shares, whatever they were held to before; a saved guest comes back with those that
   * it was saved with. Nothing happens where the VMM leaves that to the host, which holds VMM and TAP to the same in
   * any case. Throws VmmError.
   */
  hold(runDir: string, shares: DeviceShares): Promise<void>;
  /**
   * Gets ready meanwhile, stops the vCPUs once `isReady` is fulfilled, and writes what the VMM holds
   * besides guest RAM into `dir`, replacing what an earlier call wrote. The disk is flushed into its
   * file. Returns where the guest's RAM is until the vCPUs run again. Throws VmmError, or what
   * `isReady` was rejected with; the guest can be resumed then, too.
   */
  pauseAndSave(
    runDir: string,
    options: { dir: string; isReady: Promise<unknown> },
  ): Promise<LiveMemory>;
  /** Where the guest's RAM is, whether its vCPUs run or not. Throws if nothing can tell any more. */
  memoryOf(runDir: string): Promise<LiveMemory>;
  /**
   * The VMM that lives in a run directory, or null if there is none. After null none will ever
   * appear there: a start that an earlier agent had begun is called off.
   */
  adopt(runDir: string): Promise<VmmProcess | null>;
}

/** From the end of a VMM to when its keeper has ended, too, on a host that does much else. */
const EXIT_NOTICE_MS = 1_000;

/** How it ended; null: it lives. For whoever was just let down by it or its guest. */
export async function exitOf({ exited }: VmmProcess): Promise<VmmExit | null> {
  return await Promise.race([exited, Bun.sleep(EXIT_NOTICE_MS).then(() => null)]);
}

/** A VMM did not do what was asked. The message may name host paths: it is for the log. */
export class VmmError extends Error {
  override readonly name = "VmmError";
}

export interface GuestKernel {
  /** Path of an uncompressed ELF kernel. */
  readonly vmlinux: string;
  /** Path of the initial file system beside it, if there is one. */
  readonly initrd: string | null;
  /** "6.1.192"; "" for a plain vmlinux, whose version nothing tells. */
  readonly version: string;
}
