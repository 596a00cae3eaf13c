// Picks the VMM of this host.

import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Vmm, VmmError } from "../vmm/vmm.ts";
import { probeAccel } from "./qemu/probe-accel.ts";
import { Qemu } from "./qemu/qemu.ts";

// The jail shows /usr and nothing else.
const QEMU_PROGRAMS = ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"];
// microvm with PVH, -sandbox and memory backends as they are used here.
const QEMU_MAJOR_MIN = 7;
const VERSION_TIMEOUT_MS = 10_000;

export interface ChooseVmmOptions {
  /** WRENN_VMM. "auto" is the best that is there; today that is QEMU. */
  readonly vmm: "auto" | "qemu";
  /** Where the keeper and the probe's guest are. */
  readonly nativeDir: string;
  /** Made if missing; null: what was probed is neither kept nor read. */
  readonly cacheDir: string | null;
}

export interface VmmChoice {
  readonly name: "qemu";
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
  const { vmm, nativeDir, cacheDir } = options;
  const program = QEMU_PROGRAMS.find((path) => existsSync(path));
  if (program === undefined) throw new VmmError("qemu-system-x86_64 is not installed");
  for (const name of ["keeper", "accel-probe.bin"]) {
    if (!existsSync(join(nativeDir, name))) throw new VmmError(`${name} is not in ${nativeDir}`);
  }
  const version = await readVersion(program);
  if (cacheDir !== null) await mkdir(cacheDir, { recursive: true });
  const accel = await probeAccel({ program, version, nativeDir, cacheDir });
  return {
    ...{ name: "qemu", program, version },
    ...{ accel: accel.accel, accelBecause: accel.because },
    because: vmm === "auto" ? "WRENN_VMM=auto, and no other has a driver" : `WRENN_VMM=${vmm}`,
  };
}

/** What was picked and why, in one line: at the agent's start, and for the doctor. */
export function describeChoice(choice: VmmChoice): string {
  const { name, version, accel, because, accelBecause } = choice;
  return `${name} ${version} (${because}) with ${accel} (${accelBecause})`;
}

/** `tscKhz` is the host's time stamp counter, which an emulated guest is told. */
export function openVmm(choice: VmmChoice, host: { nativeDir: string; tscKhz: number }): Vmm {
  return new Qemu({ ...choice, ...host });
}

async function readVersion(program: string): Promise<string> {
  const child = Bun.spawn([program, "--version"], {
    stdio: ["ignore", "pipe", "ignore"],
    env: {},
    timeout: VERSION_TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const text = await new Response(child.stdout).text();
  await child.exited;
  const version = /version (\d+)(?:\.\d+)*[^\n]*/.exec(text);
  if (version === null) throw new VmmError(`${program} does not tell its version`);
  if (Number(version[1]) < QEMU_MAJOR_MIN) {
    throw new VmmError(`${program} is older than QEMU ${QEMU_MAJOR_MIN}`);
  }
  return version[0].slice("version ".length);
}
