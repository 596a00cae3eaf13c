/**
 * The command line of Cloud Hypervisor (its docs, and `--help` of 50 to 53).
 *
 * Every path is one of the jail's, the same for each capsule, so what it records in its state holds on any host.
 *
 * - TAP and API socket are open descriptors of the keeper's. To open a TAP by name it would have to bring it up, which
 *   its user may not; and a socket that it makes by itself has a lock file that outlives SIGKILL.
 * - The console is its standard output: a file would be truncated by a restore, whatever names it then.
 * - The disk says that it is raw: where the image is looked at instead, the guest writes what is looked at.
 * - Landlock, where the kernel has it, lets its threads open what the command line names, and its own directory, once
 *   they are about to run a guest: the jail, which they start in, shows them its libraries and devices, too.
 * - No guest is a host of others: that is much of KVM's code, and no capsule's business.
 * - There is no transparent huge page: memory is in a file of a tmpfs, by pages of 4 KiB as it is saved.
 */

import { VMM_FD } from "../../keeper/start-keeper.ts";
import { type GuestKernel, VmmError } from "../../vmm/vmm.ts";
import { GUEST_MAC, guestCmdline } from "../guest/guest-cmdline.ts";

/** Where the jail shows the capsule's files. */
export const JAIL_FILE = {
  program: "cloud-hypervisor",
  kernel: "kernel",
  initrd: "initrd",
  disk: "disk",
  ram: "ram",
  /** A directory with the state to start from. */
  loaded: "loaded",
  /** The VMM's own directory. */
  own: "own",
} as const;

export const RAM_ZONE = "ram";
const NETWORK = "net0";

export interface BootOptions {
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly kernel: GuestKernel;
  readonly cmdlineExtra: readonly string[];
  /** Whether the kernel has what `--landlock` insists on. */
  readonly hasLandlock: boolean;
}

/** Program and arguments of a guest that boots. Throws VmmError for words that cannot be passed on. */
export function bootCommand(options: BootOptions): string[] {
  const { vcpus, memoryMib, kernel, cmdlineExtra, hasLandlock } = options;
  if (!Number.isSafeInteger(vcpus) || !Number.isSafeInteger(memoryMib)) {
    throw new VmmError("vcpus, memoryMib: no integers");
  }
  const zone = `id=${RAM_ZONE},size=${memoryMib}M,file=/vm/${JAIL_FILE.ram},shared=on`;
  return [
    ...COMMON,
    ...(hasLandlock ? landlock() : []),
    ...["--kernel", `/vm/${JAIL_FILE.kernel}`],
    ...(kernel.initrd === null ? [] : ["--initramfs", `/vm/${JAIL_FILE.initrd}`]),
    ...["--cmdline", guestCmdline([], cmdlineExtra)],
    ...["--cpus", `boot=${vcpus},nested=off`],
    ...["--memory", "size=0", "--memory-zone", zone],
    ...["--disk", `path=/vm/${JAIL_FILE.disk},image_type=raw`],
    ...["--net", `id=${NETWORK},fd=${VMM_FD.tap},mac=${GUEST_MAC}`],
    ...["--rng", "src=/dev/urandom", "--serial", "tty", "--console", "off"],
  ];
}

/**
 * Of one that goes on; its vCPUs stay stopped. Landlock is in what it restores, since `--landlock` wants a kernel
 * beside it: so it holds the threads that serve the guest, and not those that serve the API.
 */
export function restoreCommand(): string[] {
  const source = `source_url=file:///vm/${JAIL_FILE.loaded}`;
  return [...COMMON, "--restore", `${source},net_fds=[${NETWORK}@[${VMM_FD.tap}]]`];
}

/** What it may open beside what its other options name: where it saves its state. */
export const LANDLOCK_RULE = { path: `/vm/${JAIL_FILE.own}`, access: "rw" } as const;

function landlock(): string[] {
  const { path, access } = LANDLOCK_RULE;
  return ["--landlock", "--landlock-rules", `path=${path},access=${access}`];
}

const COMMON = [
  `/vm/${JAIL_FILE.program}`,
  ...["--api-socket", `fd=${VMM_FD.control}`],
  ...["--seccomp", "true"],
];
