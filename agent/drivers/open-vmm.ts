// Picks the VMM of this host.

import { existsSync } from "node:fs";
import { mkdir, realpath } from "node:fs/promises";
import { join } from "node:path";
import { type Vmm, VmmError } from "../vmm/vmm.ts";
import { CloudHypervisor } from "./cloud-hypervisor/cloud-hypervisor.ts";
import { Firecracker } from "./firecracker/firecracker.ts";
import { compareVersions, refuseKnownEscapes } from "./known-escapes.ts";
import { probeAccel } from "./qemu/probe-accel.ts";
import { Qemu } from "./qemu/qemu.ts";

// The jail shows /usr and nothing else.
const QEMU_PROGRAMS = ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"];
// microvm with PVH, -sandbox and memory backends as they are used here.
const QEMU_MAJOR_MIN = 7;

interface KvmVmm {
  readonly name: "firecracker" | "cloud-hypervisor";
  readonly title: string;
  /** Where scripts/fetch-vmm.sh puts it. */
  readonly program: string;
  readonly version: RegExp;
  readonly versionMin: string;
  readonly devices: readonly string[];
}

const FIRECRACKER: KvmVmm = {
  ...{ name: "firecracker", title: "Firecracker", program: "/usr/local/bin/firecracker" },
  version: /Firecracker v(\d+\.\d+\.\d+)/,
  // Networks can be named anew when a guest is restored.
  versionMin: "1.12.0",
  devices: ["/dev/kvm", "/dev/net/tun", "/dev/userfaultfd"],
};

const CLOUD_HYPERVISOR: KvmVmm = {
  ...{ name: "cloud-hypervisor", title: "Cloud Hypervisor" },
  program: "/usr/local/bin/cloud-hypervisor",
  version: /cloud-hypervisor v(\d+\.\d+(?:\.\d+)?)/,
  // A disk can be said to be raw, and none of those before is without a known escape.
  versionMin: "51.2",
  devices: ["/dev/kvm", "/dev/net/tun"],
};

/** In this order. */
const AUTO = ["firecracker", "qemu"] as const;
const CHOOSERS = {
  "cloud-hypervisor": chooseCloudHypervisor,
  firecracker: chooseFirecracker,
  qemu: chooseQemu,
} as const;
const VERSION_TIMEOUT_MS = 10_000;
/** Of what a program says of itself. */
const VERSION_TEXT_MAX = 4096;

export interface ChooseVmmOptions {
  /** WRENN_VMM. "auto" is the first of AUTO that works here. */
  readonly vmm: "auto" | VmmChoice["name"];
  /** Null: where it is installed. */
  readonly firecrackerBin: string | null;
  readonly cloudHypervisorBin: string | null;
  /** A name of the VMM's: hosts with other processors can take pauses of it. Null: the host's own. */
  readonly cpu: string | null;
  /** Whether RAM files have pages of 2 MiB. */
  readonly hasHugePages: boolean;
  /** Where the keeper and the probe's guest are. */
  readonly nativeDir: string;
  /** Made if missing; null: what was probed is neither kept nor read. */
  readonly cacheDir: string | null;
}

type ProbeDirs = Pick<ChooseVmmOptions, "cpu" | "nativeDir" | "cacheDir">;

export interface VmmChoice {
  readonly name: "qemu" | "firecracker" | "cloud-hypervisor";
  readonly program: string;
  readonly version: string;
  readonly accel: "kvm" | "tcg";
  readonly cpu: string | null;
  /** Why it is this VMM, for people. */
  readonly because: string;
  /** Why it has KVM, or not. */
  readonly accelBecause: string;
}

/** Throws VmmError, one sentence that says what is missing. */
export async function chooseVmm(options: ChooseVmmOptions): Promise<VmmChoice> {
  const { vmm, nativeDir } = options;
  for (const name of ["keeper", "pager", "accel-probe.bin"]) {
    if (!existsSync(join(nativeDir, name))) throw new VmmError(`${name} is not in ${nativeDir}`);
  }
  if (vmm !== "auto") return CHOOSERS[vmm](options, `WRENN_VMM=${vmm}`);
  const failures: VmmError[] = [];
  for (const name of AUTO) {
    const because = failures.map(({ message }) => message).join("; ") || "WRENN_VMM=auto";
    try {
      return await CHOOSERS[name](options, because);
    } catch (error) {
      if (!(error instanceof VmmError)) throw error;
      failures.push(error);
    }
  }
  throw new VmmError(`No VMM works here: ${failures.map(({ message }) => message).join("; ")}`);
}

/** What was picked and why, in one line: at the agent's start, and for the doctor. */
export function describeChoice(choice: VmmChoice): string {
  const { name, version, accel, cpu, because, accelBecause } = choice;
  const processor = cpu === null ? "" : `, processor ${cpu}`;
  return `${name} ${version} (${because}) with ${accel} (${accelBecause})${processor}`;
}

/** What a driver needs to know of its host. */
export interface VmmHost {
  readonly nativeDir: string;
  /** Of the time stamp counter, which an emulated guest is told. */
  readonly tscKhz: number;
  /** The kernel's version of Landlock; 0: none. */
  readonly landlockVersion: number;
}

export function openVmm(choice: VmmChoice, host: VmmHost): Vmm {
  const options = { ...choice, ...host };
  if (choice.name === "cloud-hypervisor") return new CloudHypervisor(options);
  return choice.name === "firecracker" ? new Firecracker(options) : new Qemu(options);
}

async function chooseQemu(dirs: ProbeDirs, because: string): Promise<VmmChoice> {
  const program = QEMU_PROGRAMS.find((path) => existsSync(path));
  if (program === undefined) throw new VmmError("qemu-system-x86_64 is not installed");
  const { version, accel } = await probe(program, dirs);
  const { cpu } = dirs;
  // Emulated guests all see the same one, and QEMU's names are for KVM's.
  if (cpu !== null && accel.accel === "tcg") {
    throw new VmmError(`WRENN_CPU=${cpu} does not work here: ${accel.because}`);
  }
  return {
    ...{ name: "qemu", program, version, cpu, because },
    ...{ accel: accel.accel, accelBecause: accel.because },
  };
}

async function chooseFirecracker(
  { firecrackerBin, ...dirs }: ChooseVmmOptions,
  because: string,
): Promise<VmmChoice> {
  // By its own huge pages it could not map a flat file, and the pager brings pages of 4 KiB.
  if (dirs.hasHugePages) {
    throw new VmmError("Firecracker has no RAM file that could have huge pages (WRENN_HUGE_PAGES)");
  }
  return chooseOnKvm(FIRECRACKER, {
    program: firecrackerBin ?? FIRECRACKER.program,
    because,
    dirs,
  });
}

async function chooseCloudHypervisor(
  { cloudHypervisorBin, ...dirs }: ChooseVmmOptions,
  because: string,
): Promise<VmmChoice> {
  if (dirs.cpu !== null)
    throw new VmmError("Cloud Hypervisor has no processors by name (WRENN_CPU)");
  const program = cloudHypervisorBin ?? CLOUD_HYPERVISOR.program;
  return chooseOnKvm(CLOUD_HYPERVISOR, { program, because, dirs });
}

/** Of a VMM that needs KVM, and is no package of the distribution's. */
async function chooseOnKvm(
  known: KvmVmm,
  { program: named, because, dirs }: { program: string; because: string; dirs: ProbeDirs },
): Promise<VmmChoice> {
  const { name, title } = known;
  const program = await realpath(named).catch((cause: unknown) => {
    throw new VmmError(`${title} is not at ${named}`, { cause });
  });
  const version = known.version.exec(await say(program))?.[1];
  if (version === undefined) throw new VmmError(`${program} does not say that it is ${title}`);
  if (compareVersions(version, known.versionMin) < 0) {
    throw new VmmError(`${title} ${version} is older than ${known.versionMin}`);
  }
  refuseKnownEscapes(name, version);
  const missing = known.devices.find((path) => !existsSync(path));
  if (missing !== undefined) throw new VmmError(`${title} needs ${missing}`);
  const accelBecause = await requireKvm(title, dirs);
  return { name, program, version, accel: "kvm", cpu: dirs.cpu, accelBecause, because };
}

/** The probe's guest is one for QEMU. Without that the first guest shows whether KVM works. */
async function requireKvm(title: string, dirs: ProbeDirs): Promise<string> {
  const qemu = QEMU_PROGRAMS.find((path) => existsSync(path));
  if (qemu === undefined) return "there is /dev/kvm, and no QEMU to try it with";
  // QEMU knows other names.
  const { accel } = await probe(qemu, { ...dirs, cpu: null });
  if (accel.accel === "kvm") return accel.because;
  throw new VmmError(`${title} needs KVM: ${accel.because}`);
}

async function probe(program: string, { cpu, nativeDir, cacheDir }: ProbeDirs) {
  const version = await readQemuVersion(program);
  if (cacheDir !== null) await mkdir(cacheDir, { recursive: true });
  return { version, accel: await probeAccel({ program, version, cpu, nativeDir, cacheDir }) };
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
