// Picks the VMM of this host.

import { existsSync } from "node:fs";
import { mkdir, realpath } from "node:fs/promises";
import { join } from "node:path";
import { type Vmm, VmmError } from "../vmm/vmm.ts";
import { Firecracker } from "./firecracker/firecracker.ts";
import { compareVersions, refuseKnownEscapes } from "./known-escapes.ts";
import { probeAccel } from "./qemu/probe-accel.ts";
import { Qemu } from "./qemu/qemu.ts";

// The jail shows /usr and nothing else.
const QEMU_PROGRAMS = ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"];
// microvm with PVH, -sandbox and memory backends as they are used here.
const QEMU_MAJOR_MIN = 7;
const FIRECRACKER_PROGRAM = "/usr/local/bin/firecracker";
// Networks can be named anew when a guest is restored.
const FIRECRACKER_MIN = "1.12.0";
const FIRECRACKER_DEVICES = ["/dev/kvm", "/dev/net/tun", "/dev/userfaultfd"];
const VERSION_TIMEOUT_MS = 10_000;
/** Of what a program says of itself. */
const VERSION_TEXT_MAX = 4096;

export interface ChooseVmmOptions {
  /** WRENN_VMM. "auto" is the best that is there; today that is QEMU. */
  readonly vmm: "auto" | "qemu" | "firecracker";
  /** WRENN_FIRECRACKER_BIN; without it, where it is installed. */
  readonly firecrackerBin?: string | null;
  /** Where the keeper and the probe's guest are. */
  readonly nativeDir: string;
  /** Made if missing; null: what was probed is neither kept nor read. */
  readonly cacheDir: string | null;
}

export interface VmmChoice {
  readonly name: "qemu" | "firecracker";
  readonly program: string;
  readonly version: string;
  readonly accel: "kvm" | "tcg";
  /** Why it is this VMM, for people. */
  readonly because: string;
  /** Why it has KVM, or not. */
  readonly accelBecause: string;
}

/** Throws VmmError, one sentence that says what is missing. */
export async function chooseVmm(options: ChooseVmmOptions): Promise<VmmChoice> {
  const { nativeDir } = options;
  for (const name of ["keeper", "pager", "accel-probe.bin"]) {
    if (!existsSync(join(nativeDir, name))) throw new VmmError(`${name} is not in ${nativeDir}`);
  }
  return options.vmm === "firecracker" ? chooseFirecracker(options) : chooseQemu(options);
}

/** What was picked and why, in one line: at the agent's start, and for the doctor. */
export function describeChoice(choice: VmmChoice): string {
  const { name, version, accel, because, accelBecause } = choice;
  return `${name} ${version} (${because}) with ${accel} (${accelBecause})`;
}

/** `tscKhz` is the host's time stamp counter, which an emulated guest is told. */
export function openVmm(choice: VmmChoice, host: { nativeDir: string; tscKhz: number }): Vmm {
  const options = { ...choice, ...host };
  return choice.name === "firecracker" ? new Firecracker(options) : new Qemu(options);
}

async function chooseQemu({ vmm, nativeDir, cacheDir }: ChooseVmmOptions): Promise<VmmChoice> {
  const program = QEMU_PROGRAMS.find((path) => existsSync(path));
  if (program === undefined) throw new VmmError("qemu-system-x86_64 is not installed");
  const { version, accel } = await probe(program, { nativeDir, cacheDir });
  return {
    ...{ name: "qemu", program, version },
    ...{ accel: accel.accel, accelBecause: accel.because },
    because: vmm === "auto" ? "WRENN_VMM=auto takes no other yet" : `WRENN_VMM=${vmm}`,
  };
}

async function chooseFirecracker(options: ChooseVmmOptions): Promise<VmmChoice> {
  const { vmm, firecrackerBin, ...dirs } = options;
  const named = firecrackerBin ?? FIRECRACKER_PROGRAM;
  const program = await realpath(named).catch((cause: unknown) => {
    throw new VmmError(`Firecracker is not at ${named}`, { cause });
  });
  const version = /Firecracker v(\d+\.\d+\.\d+)/.exec(await say(program))?.[1];
  if (version === undefined) throw new VmmError(`${program} does not say that it is Firecracker`);
  if (compareVersions(version, FIRECRACKER_MIN) < 0) {
    throw new VmmError(`Firecracker ${version} is older than ${FIRECRACKER_MIN}`);
  }
  refuseKnownEscapes("firecracker", version);
  const missing = FIRECRACKER_DEVICES.find((path) => !existsSync(path));
  if (missing !== undefined) throw new VmmError(`Firecracker needs ${missing}`);
  const accelBecause = await requireKvm(dirs);
  return {
    ...{ name: "firecracker", program, version, accel: "kvm", accelBecause },
    because: `WRENN_VMM=${vmm}`,
  };
}

/** The probe's guest is one for QEMU. Without that the first guest shows whether KVM works. */
async function requireKvm(dirs: Pick<ChooseVmmOptions, "nativeDir" | "cacheDir">) {
  const qemu = QEMU_PROGRAMS.find((path) => existsSync(path));
  if (qemu === undefined) return "there is /dev/kvm, and no QEMU to try it with";
  const { accel } = await probe(qemu, dirs);
  if (accel.accel === "kvm") return accel.because;
  throw new VmmError(`Firecracker needs KVM: ${accel.because}`);
}

async function probe(program: string, dirs: Pick<ChooseVmmOptions, "nativeDir" | "cacheDir">) {
  const { nativeDir, cacheDir } = dirs;
  const version = await readQemuVersion(program);
  if (cacheDir !== null) await mkdir(cacheDir, { recursive: true });
  return { version, accel: await probeAccel({ program, version, nativeDir, cacheDir }) };
}

async function readQemuVersion(program: string): Promise<string> {
  const version = /version (\d+)(?:\.\d+)*[^\n]*/.exec(await say(program));
  if (version === null) throw new VmmError(`${program} does not tell its version`);
  if (Number(version[1]) < QEMU_MAJOR_MIN) {
    throw new VmmError(`${program} is older than QEMU ${QEMU_MAJOR_MIN}`);
  }
  return version[0].slice("version ".length);
}

/** What it says when it is asked for its version. Throws VmmError if it cannot be run. */
async function say(program: string): Promise<string> {
  try {
    const child = Bun.spawn([program, "--version"], {
      stdio: ["ignore", "pipe", "ignore"],
      env: {},
      timeout: VERSION_TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    const text = await new Response(child.stdout).text();
    await child.exited;
    return text.slice(0, VERSION_TEXT_MAX);
  } catch (cause) {
    throw new VmmError(`${program} cannot be run`, { cause });
  }
}
