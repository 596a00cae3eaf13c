/**
 * The command line of QEMU's `microvm` machine: no firmware menu, no PCI, virtio over MMIO, a kernel
 * loaded directly.
 *
 * Every path is one of the jail's, the same for each capsule; nothing of a request becomes part of
 * an option, except for the words appended to the guest's kernel command line, which are checked.
 *
 * Why these disk options: cache.direct=off, because the host's page cache serves the reads that
 * clones of one base image have in common after a boot, and O_DIRECT would need alignment that
 * files on some file systems refuse. Flushes of the guest reach the host's disk (no-flush=off): a
 * guest that was told its data is safe can rely on it. aio=threads, because native needs O_DIRECT
 * and io_uring is not in QEMU's seccomp filter. discard=unmap and detect-zeroes=unmap give back
 * what the guest frees, so a sparse disk stays sparse.
 */

import { VMM_FD } from "../../keeper/start-keeper.ts";
import type { GuestKernel } from "../../vmm/vmm.ts";
import { type CapsuleShape, VmmError } from "../../vmm/vmm.ts";
import { GUEST_MAC, guestCmdline } from "../guest/guest-cmdline.ts";
import { kvmCpu } from "./probe-accel.ts";

/** Where the jail shows the capsule's files. */
export const JAIL_FILE = {
  kernel: "kernel",
  initrd: "initrd",
  disk: "disk",
  ram: "ram",
  preload: "preload.so",
  pager: "pager.sock",
} as const;

/**
 * Bound of the buffer for translated code, named in the memory limit. A boot to envd costs the same
 * with 64 to 512 MiB (3.3 s of CPU time) and nearly twice as much with 32 MiB, where code is thrown
 * away and translated again; 128 MiB leave room for what the guest runs then.
 */
export const TCG_BUFFER_MIB = 128;

export interface QemuCommandOptions extends CapsuleShape {
  readonly program: string;
  readonly capsuleId: string;
  readonly accel: "kvm" | "tcg";
  /** By QEMU's name; null: the host's. */
  readonly cpu: string | null;
  readonly kernel: GuestKernel;
  readonly cmdlineExtra: readonly string[];
  readonly tscKhz: number;
  /** What the root disk is on the host. */
  readonly disk: "file" | "block device";
  /** Wait for a saved guest instead of booting one. */
  readonly isIncoming?: boolean;
}

/**
 * What wrenn-preload.so (native/preload) is told. The command line shares the RAM file in any case,
 * so that QEMU leaves RAM out of what it saves; the library changes what is really mapped.
 */
export function preloadEnvironment(mode: "private" | "uffd"): Record<string, string> {
  const environment = {
    LD_PRELOAD: `/vm/${JAIL_FILE.preload}`,
    WRENN_RAM_FILE: `/vm/${JAIL_FILE.ram}`,
    WRENN_RAM_MODE: mode,
  };
  if (mode === "private") return environment;
  return {
    ...environment,
    WRENN_RAM_SOCKET: `/vm/${JAIL_FILE.pager}`,
    WRENN_USERFAULT_FD: String(VMM_FD.userfault),
  };
}

/** Program and arguments. Throws VmmError naming what is out of bounds. */
export function qemuCommand(options: QemuCommandOptions): string[] {
  if (!/^[A-Za-z0-9-]{1,64}$/.test(options.capsuleId)) throw new VmmError("capsuleId: bad name");
  return [
    options.program,
    ...["-name", `guest=${options.capsuleId}`],
    ...["-nodefaults", "-no-user-config", "-no-reboot"],
    ...["-display", "none"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...machine(options),
    ...["-kernel", `/vm/${JAIL_FILE.kernel}`],
    ...(options.kernel.initrd === null ? [] : ["-initrd", `/vm/${JAIL_FILE.initrd}`]),
    ...["-append", kernelCmdline(options)],
    ...CONSOLE_AND_MONITOR,
    ...diskOf(options),
    ...NETWORK,
    ...["-object", "rng-builtin,id=rng0", "-device", "virtio-rng-device,rng=rng0"],
    ...(options.isIncoming ? ["-incoming", "defer"] : []),
  ];
}

/** The guest's kernel command line. Throws VmmError if an extra word or the whole is not usable. */
export function kernelCmdline(
  options: Pick<QemuCommandOptions, "accel" | "tscKhz" | "cmdlineExtra">,
): string {
  return guestCmdline(clockFlags(options), options.cmdlineExtra);
}

/**
 * Under TCG the kernel's own calibration fails on a busy host and one boot in five hangs. And having
 * nothing to compare the TSC with, it would keep time by counting ticks: 250 wake-ups a second of an
 * idle guest, 4-7 % of a host's CPU instead of 1 % (measured 2026-11-22), and a clock that falls
 * behind when the host is busy. TCG's TSC is the host's, whose rate we know.
 */
function clockFlags({ accel, tscKhz }: Pick<QemuCommandOptions, "accel" | "tscKhz">): string[] {
  return accel === "tcg" ? [`tsc_early_khz=${tscKhz}`, "tsc=reliable", "no_timer_check"] : [];
}

/**
 * Every feature but fast string instructions: kernels and C libraries that find those copy and clear memory with
 * `rep movsb` and `rep stosb`, of which TCG emulates each byte for itself. Without them it is words and vectors.
 */
const EMULATED_CPU = "max,-erms,-fsrm";

function machine({ accel, cpu, vcpus, memoryMib }: QemuCommandOptions): string[] {
  const tcg = `tcg,thread=multi,tb-size=${TCG_BUFFER_MIB}`;
  const ram = `/vm/${JAIL_FILE.ram}`;
  return [
    ...["-accel", accel === "tcg" ? tcg : accel],
    ...["-machine", MACHINE],
    // Small and without options: on a loaded vmlinux it hands over 40 ms earlier than the default.
    ...["-bios", "qboot.rom"],
    ...["-cpu", accel === "tcg" ? EMULATED_CPU : kvmCpu(cpu)],
    ...["-smp", String(vcpus)],
    ...["-m", String(memoryMib)],
    ...["-object", `memory-backend-file,id=mem,size=${memoryMib}M,mem-path=${ram},share=on`],
  ];
}

const MACHINE =
  "microvm,isa-serial=on,rtc=on,x-option-roms=off,memory-backend=mem,mem-merge=off,dump-guest-core=off";

const CONSOLE_AND_MONITOR = [
  ...["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"],
  ...["-chardev", `socket,id=qmp,fd=${VMM_FD.control},server=on,wait=off`],
  ...["-mon", "chardev=qmp,mode=control"],
];

function diskOf({ disk }: QemuCommandOptions): string[] {
  const driver = disk === "file" ? "file" : "host_device";
  const blockdev = [
    "driver=raw,node-name=root,discard=unmap,detect-zeroes=unmap,cache.direct=off,cache.no-flush=off",
    `file.driver=${driver},file.filename=/vm/${JAIL_FILE.disk},file.aio=threads,file.discard=unmap`,
  ];
  return ["-blockdev", blockdev.join(","), "-device", "virtio-blk-device,drive=root"];
}

const NETWORK = [
  ...["-netdev", `tap,id=net0,fd=${VMM_FD.tap},vhost=off`],
  ...["-device", `virtio-net-device,netdev=net0,mac=${GUEST_MAC}`],
];
