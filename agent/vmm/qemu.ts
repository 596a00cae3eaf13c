// The driver of QEMU's microvm machine.

import { stat } from "node:fs/promises";
import { Type } from "@sinclair/typebox";
import type { CgroupLimits } from "../cgroups/cgroups.ts";
import { createGuestRam } from "../memory/guest-ram.ts";
import { callOff, KeptProcess } from "./kept-process.ts";
import { JAIL_FILE, qemuCommand, TCG_BUFFER_MIB } from "./qemu-command.ts";
import { QmpClient } from "./qmp.ts";
import { type JailFile, startKeeper } from "./start-keeper.ts";
import { type CapsuleShape, type Vmm, VmmError, type VmmProcess, type VmmSpec } from "./vmm.ts";

const CONTROL = "qmp.sock";
const KVM = "/dev/kvm";
const MIB = 1024 * 1024;
// QEMU is up after 30 ms on an idle host; twenty that start at once on two cores wait for each other.
const QMP_START_TIMEOUT_MS = 30_000;
const QMP_TIMEOUT_MS = 10_000;

// What QEMU needs besides guest RAM: heap, page tables, device buffers (61 MiB of anonymous memory
// after a boot under TCG, most of it translated code), and per vCPU a stack and a software TLB.
const VMM_MEMORY_MIB = 96;
const VCPU_MEMORY_MIB = 16;
// Main loop, RCU, console, and the worker threads of disk I/O, of which QEMU starts at most 64.
const VMM_THREADS = 80;

const Status = Type.Object({ status: Type.String({ maxLength: 64 }), running: Type.Boolean() });

export interface QemuOptions {
  readonly program: string;
  readonly version: string;
  readonly accel: "kvm" | "tcg";
  readonly nativeDir: string;
  readonly tscKhz: number;
}

export class Qemu implements Vmm {
  readonly name = "qemu";
  readonly version: string;
  readonly accel: "kvm" | "tcg";
  readonly #options: QemuOptions;

  constructor(options: QemuOptions) {
    this.version = options.version;
    this.accel = options.accel;
    this.#options = options;
  }

  limits({ vcpus, memoryMib }: CapsuleShape): CgroupLimits {
    const codeMib = this.accel === "tcg" ? TCG_BUFFER_MIB : 0;
    const ownMib = VMM_MEMORY_MIB + vcpus * VCPU_MEMORY_MIB + codeMib;
    return {
      memoryBytes: (memoryMib + ownMib) * MIB,
      cpus: vcpus,
      pids: VMM_THREADS + vcpus,
    };
  }

  async boot(spec: VmmSpec): Promise<VmmProcess> {
    const command = qemuCommand({ ...this.#options, ...spec });
    const ram = await createGuestRam(spec.runDir, { sizeMib: spec.memoryMib, uid: spec.uid });
    const disk = await stat(spec.rootDisk);
    const process = await startKeeper(this.#options.nativeDir, {
      ...spec,
      control: CONTROL,
      cgroupProcsFiles: spec.cgroup.procsFiles,
      files: jailFiles(spec, ram),
      devices: this.accel === "kvm" ? [KVM] : [],
      fileMaxBytes: Math.max(disk.size, spec.memoryMib * MIB),
      command,
    });
    try {
      await checkRunning(spec.runDir);
      return process;
    } catch (cause) {
      const exit = await process.kill();
      throw new VmmError(`QEMU did not start: ${exit.detail}`, { cause });
    }
  }

  async adopt(runDir: string): Promise<VmmProcess | null> {
    const process = await KeptProcess.attach(runDir);
    if (process === null) await callOff(runDir);
    return process;
  }
}

function jailFiles(spec: VmmSpec, ram: string): JailFile[] {
  const initrd = spec.kernel.initrd;
  return [
    { name: JAIL_FILE.kernel, path: spec.kernel.vmlinux, access: "ro" },
    ...(initrd === null ? [] : [{ name: JAIL_FILE.initrd, path: initrd, access: "ro" } as const]),
    { name: JAIL_FILE.disk, path: spec.rootDisk, access: "rw" },
    { name: JAIL_FILE.ram, path: ram, access: "rw" },
  ];
}

async function checkRunning(runDir: string): Promise<void> {
  const options = { name: CONTROL, timeoutMs: QMP_START_TIMEOUT_MS };
  await using qmp = await QmpClient.connect(runDir, options);
  const answer = await qmp.execute("query-status", { schema: Status, timeoutMs: QMP_TIMEOUT_MS });
  if (!answer.running) throw new VmmError(`QEMU is ${answer.status}`);
}
