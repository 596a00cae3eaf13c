// The driver of QEMU's microvm machine.

import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { CgroupLimits } from "../../cgroups/cgroups.ts";
import { callOff, endedOnFailure, KeptProcess } from "../../keeper/kept-process.ts";
import { type JailFile, type KeeperSpec, startKeeper } from "../../keeper/start-keeper.ts";
import { createGuestRam } from "../../memory/guest-ram.ts";
import { readMemorySource, writeMemorySource } from "../../memory/memory-source.ts";
import { awaitPrefetch, makePagerDir, PAGER_SOCKET, pagerCommand } from "../../memory/pager.ts";
import { DescriptorSender } from "../../native/descriptor-sender.ts";
import {
  type CapsuleShape,
  type GuestMemory,
  type LiveMemory,
  type SavedGuest,
  type Vmm,
  VmmError,
  type VmmProcess,
  type VmmSpec,
} from "../../vmm/vmm.ts";
import { JAIL_FILE, preloadEnvironment, qemuCommand, TCG_BUFFER_MIB } from "./qemu-command.ts";
import {
  continueGuest,
  loadGuest,
  prepareSave,
  readStatus,
  saveGuest,
  stopGuest,
} from "./qemu-state.ts";
import { QmpClient } from "./qmp.ts";

const CONTROL = "qmp.sock";
const KVM = "/dev/kvm";
const MIB = 1024 * 1024;
// QEMU is up after 30 ms on an idle host; twenty that start at once on two cores wait for each other.
const QMP_START_TIMEOUT_MS = 30_000;
const QMP_TIMEOUT_MS = 10_000;
/** Of a guest whose write found no room (QAPI, RunState); so with werror=enospc, the default. */
const STALLED = "io-error";
// Bringing the working set takes some milliseconds per 10 MiB from a disk that is awake.
const PREFETCH_TIMEOUT_MS = 30_000;

// What QEMU needs besides guest RAM: heap, page tables, device buffers (61 MiB of anonymous memory
// after a boot under TCG, most of it translated code), and per vCPU a stack and a software TLB.
const VMM_MEMORY_MIB = 96;
const VCPU_MEMORY_MIB = 16;
// Main loop, RCU, console, the worker threads of disk I/O, of which QEMU starts at most 64, and the
// pager.
const VMM_THREADS = 80;

export interface QemuOptions {
  readonly program: string;
  readonly version: string;
  readonly accel: "kvm" | "tcg";
  readonly cpu: string | null;
  readonly nativeDir: string;
  readonly tscKhz: number;
}

/** What differs between a guest that boots and one that is restored. */
type Start = Pick<KeeperSpec, "environment" | "pager"> & { files: JailFile[] };

export class Qemu implements Vmm {
  readonly name = "qemu";
  readonly takesPager = true;
  readonly version: string;
  readonly accel: "kvm" | "tcg";
  readonly cpu: string | null;
  readonly #options: QemuOptions;
  readonly #sender: DescriptorSender;

  /** Throws if the native library does not load. */
  constructor(options: QemuOptions) {
    this.version = options.version;
    this.accel = options.accel;
    this.cpu = options.cpu;
    this.#options = options;
    this.#sender = new DescriptorSender(options.nativeDir);
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
    const ram = await createGuestRam(spec.runDir, { sizeMib: spec.memoryMib, uid: spec.uid });
    await writeMemorySource(spec.runDir, { kind: "file", path: ram });
    const process = await this.#start(spec, false, {
      files: [{ name: JAIL_FILE.ram, path: ram, access: "rw" }],
      environment: {},
      pager: null,
    });
    return endedOnFailure(process, "QEMU did not start", () => checkRunning(spec.runDir));
  }

  async restore(spec: VmmSpec, saved: SavedGuest): Promise<VmmProcess> {
    const process = await this.#start(spec, true, await this.#startOf(spec, saved.memory));
    return endedOnFailure(process, "QEMU did not restore its guest", async () => {
      await using qmp = await connect(spec.runDir, QMP_START_TIMEOUT_MS);
      await loadGuest(qmp, { dir: saved.dir, sender: this.#sender });
      if (saved.memory.kind === "uffd") await awaitPrefetch(spec.runDir, PREFETCH_TIMEOUT_MS);
    });
  }

  async pause(runDir: string): Promise<void> {
    await using qmp = await connect(runDir, QMP_TIMEOUT_MS);
    await stopGuest(qmp);
  }

  async resume(runDir: string): Promise<void> {
    await using qmp = await connect(runDir, QMP_TIMEOUT_MS);
    await continueGuest(qmp);
  }

  async isRunning(runDir: string): Promise<boolean> {
    await using qmp = await connect(runDir, QMP_TIMEOUT_MS);
    return (await readStatus(qmp)).running;
  }

  async isStalled(runDir: string): Promise<boolean> {
    await using qmp = await connect(runDir, QMP_TIMEOUT_MS);
    return (await readStatus(qmp)).status === STALLED;
  }

  /** The connection, of which there is one at a time, keeps a pause from coming between look and act. */
  async endStall(runDir: string): Promise<boolean> {
    await using qmp = await connect(runDir, QMP_TIMEOUT_MS);
    if ((await readStatus(qmp)).status !== STALLED) return false;
    await continueGuest(qmp);
    return true;
  }

  /** The host does. */
  async hold(): Promise<void> {}

  async pauseAndSave(
    runDir: string,
    { dir, isReady }: { dir: string; isReady: Promise<unknown> },
  ): Promise<LiveMemory> {
    await using qmp = await connect(runDir, QMP_TIMEOUT_MS);
    await prepareSave(qmp, { dir, sender: this.#sender });
    const [memory] = await Promise.all([this.memoryOf(runDir), isReady]);
    await stopGuest(qmp);
    await saveGuest(qmp);
    return memory;
  }

  memoryOf(runDir: string): Promise<LiveMemory> {
    return readMemorySource(runDir);
  }

  async adopt(runDir: string): Promise<VmmProcess | null> {
    const process = await KeptProcess.attach(runDir);
    if (process === null) await callOff(runDir);
    return process;
  }

  async #startOf(spec: VmmSpec, memory: GuestMemory): Promise<Start> {
    const preload: JailFile = {
      name: JAIL_FILE.preload,
      path: join(this.#options.nativeDir, "wrenn-preload.so"),
      access: "rx",
    };
    if (memory.kind === "map") {
      await writeMemorySource(spec.runDir, memory);
      return {
        files: [{ name: JAIL_FILE.ram, path: memory.file, access: "ro" }, preload],
        environment: preloadEnvironment("private"),
        pager: null,
      };
    }
    await writeMemorySource(spec.runDir, { kind: "uffd" });
    // Only its size is looked at.
    const ram = await createGuestRam(spec.runDir, { sizeMib: spec.memoryMib, uid: spec.uid });
    const dir = await makePagerDir(spec.runDir, memory.pager.uid);
    const program = join(this.#options.nativeDir, "pager");
    return {
      files: [
        { name: JAIL_FILE.ram, path: ram, access: "ro" },
        { name: JAIL_FILE.pager, path: join(dir, PAGER_SOCKET), access: "rw" },
        preload,
      ],
      environment: preloadEnvironment("uffd"),
      pager: { dir, command: pagerCommand(program, { ...memory.pager, vmmUid: spec.uid }) },
    };
  }

  async #start(spec: VmmSpec, isIncoming: boolean, start: Start): Promise<KeptProcess> {
    const disk = await stat(spec.rootDisk);
    return startKeeper(this.#options.nativeDir, {
      ...spec,
      control: CONTROL,
      cgroupProcsFiles: spec.cgroup.procsFiles,
      files: [...guestFiles(spec), ...start.files],
      devices: this.accel === "kvm" ? [KVM] : [],
      environment: start.environment,
      pager: start.pager,
      fileMaxBytes: Math.max(disk.size, spec.memoryMib * MIB),
      command: qemuCommand({
        ...this.#options,
        ...spec,
        disk: disk.isBlockDevice() ? "block device" : "file",
        isIncoming,
      }),
    });
  }
}

function guestFiles(spec: VmmSpec): JailFile[] {
  const initrd = spec.kernel.initrd;
  return [
    { name: JAIL_FILE.kernel, path: spec.kernel.vmlinux, access: "ro" },
    ...(initrd === null ? [] : [{ name: JAIL_FILE.initrd, path: initrd, access: "ro" } as const]),
    { name: JAIL_FILE.disk, path: spec.rootDisk, access: "rw" },
  ];
}

function connect(runDir: string, timeoutMs: number): Promise<QmpClient> {
  return QmpClient.connect(runDir, { name: CONTROL, timeoutMs });
}

async function checkRunning(runDir: string): Promise<void> {
  await using qmp = await connect(runDir, QMP_START_TIMEOUT_MS);
  const { status, running } = await readStatus(qmp);
  if (!running) throw new VmmError(`QEMU is ${status}`);
}
