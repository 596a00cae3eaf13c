/**
 * The driver of Firecracker.
 *
 * Its jail is the keeper's, like every VMM's, and not Firecracker's own jailer: that would be a second
 * parent beside the one that outlives the agent, and has nothing to add (uid, chroot, cgroup, namespaces,
 * no new privileges). Firecracker's seccomp filters are its own, per thread, in a release's program. It
 * opens its TAP by name, so it lives in its capsule's network namespace; the TAP belongs to its user,
 * and its filter lets it make no socket but unix ones.
 *
 * It makes its API's socket and writes its state by itself: for that it has a directory of its own in
 * the run directory, whose files are read as a stranger's.
 */

import { constants } from "node:fs";
import { chown, copyFile, mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import type { CgroupLimits } from "../../cgroups/cgroups.ts";
import { callOff, endedOnFailure, KeptProcess } from "../../keeper/kept-process.ts";
import { type JailFile, type KeeperSpec, startKeeper } from "../../keeper/start-keeper.ts";
import { readMemorySource, writeMemorySource } from "../../memory/memory-source.ts";
import { awaitPrefetch, makePagerDir, PAGER_SOCKET, pagerCommand } from "../../memory/pager.ts";
import {
  type CapsuleShape,
  type DeviceShares,
  type GuestMemory,
  type LiveMemory,
  type SavedGuest,
  type Vmm,
  VmmError,
  type VmmProcess,
  type VmmSpec,
} from "../../vmm/vmm.ts";
import { readVmmFile } from "../api/read-vmm-file.ts";
import { ApiRefusal, VmmApi } from "../api/vmm-api.ts";
import {
  API_SOCKET,
  bootArgs,
  bootRequests,
  DESCRIBE_REQUEST,
  holdRequests,
  isStateOnlySaved,
  JAIL_FILE,
  loadRequest,
  PAUSE_REQUEST,
  RESUME_REQUEST,
  SAVE_STATE_REQUEST,
  STATE_FILE,
} from "./firecracker-requests.ts";
import { findGuestRegions } from "./guest-regions.ts";

const OWN_DIR = "vmm";
const MIB = 1024 * 1024;
const START_TIMEOUT_MS = 30_000;
const API_TIMEOUT_MS = 30_000;
// Bringing the working set takes some milliseconds per 10 MiB from a disk that is awake.
const PREFETCH_TIMEOUT_MS = 30_000;
/** 60 KB with one vCPU, of which each has some 15. */
const STATE_BYTES_MAX = 4 * MIB;

// MAX_SUPPORTED_VCPUS of Firecracker.
const VCPUS_MAX = 32;
/** Above it there is another gap for devices, at 256 GiB; nobody asks for that much. */
const MEMORY_MIB_MAX = 255 * 1024;

// What Firecracker needs besides guest RAM: 5 MiB of its own, page tables, buffers, and the page cache
// of its disk, which can shrink.
const VMM_MEMORY_MIB = 64;
const VCPU_MEMORY_MIB = 8;
// Main thread, API, and the pager; KVM's workers are the kernel's.
const VMM_THREADS = 8;

const Description = Type.Object({ state: Type.String({ maxLength: 64 }) });

export interface FirecrackerOptions {
  /** No link: the jail shows this very file. */
  readonly program: string;
  readonly version: string;
  /** The name of a CPU template. */
  readonly cpu: string | null;
  readonly nativeDir: string;
}

/** What differs between a guest that boots and one that is restored. */
type Start = Pick<KeeperSpec, "pager"> & { files: JailFile[]; devices: string[] };

export class Firecracker implements Vmm {
  readonly name = "firecracker";
  readonly accel = "kvm";
  readonly takesPager = true;
  readonly version: string;
  readonly cpu: string | null;
  readonly #options: FirecrackerOptions;

  constructor(options: FirecrackerOptions) {
    this.version = options.version;
    this.cpu = options.cpu;
    this.#options = options;
  }

  limits({ vcpus, memoryMib }: CapsuleShape): CgroupLimits {
    return {
      memoryBytes: (memoryMib + VMM_MEMORY_MIB + vcpus * VCPU_MEMORY_MIB) * MIB,
      cpus: vcpus,
      pids: VMM_THREADS + vcpus,
    };
  }

  async boot(spec: VmmSpec): Promise<VmmProcess> {
    checkShape(spec);
    const requests = bootRequests(spec, this.cpu);
    const process = await this.#start(spec, { files: kernelFiles(spec), devices: [], pager: null });
    return endedOnFailure(process, "Firecracker did not start", async () => {
      await using api = await connectToNew(spec.runDir, process);
      for (const request of requests) await api.send(request, API_TIMEOUT_MS);
      const options = { totalBytes: spec.memoryMib * MIB, cmdline: bootArgs(spec) };
      const regions = await findGuestRegions(process.pid, options);
      await writeMemorySource(spec.runDir, { kind: "anonymous", regions });
    });
  }

  async restore(spec: VmmSpec, saved: SavedGuest): Promise<VmmProcess> {
    checkShape(spec);
    const loaded = join(spec.runDir, JAIL_FILE.loaded);
    await copyFile(join(saved.dir, STATE_FILE), loaded, constants.COPYFILE_EXCL);
    await chown(loaded, spec.uid, spec.uid);
    const start = await this.#startOf(spec, saved.memory);
    start.files.push({ name: JAIL_FILE.loaded, path: loaded, access: "ro" });
    const process = await this.#start(spec, start);
    return endedOnFailure(process, "Firecracker did not restore its guest", async () => {
      await using api = await connectToNew(spec.runDir, process);
      await api.send(loadRequest(spec, saved.memory), API_TIMEOUT_MS);
      if (saved.memory.kind === "uffd") await awaitPrefetch(spec.runDir, PREFETCH_TIMEOUT_MS);
    });
  }

  async pause(runDir: string): Promise<void> {
    await using api = await connect(runDir);
    await api.send(PAUSE_REQUEST, API_TIMEOUT_MS);
  }

  async resume(runDir: string): Promise<void> {
    await using api = await connect(runDir);
    await api.send(RESUME_REQUEST, API_TIMEOUT_MS);
  }

  async isRunning(runDir: string): Promise<boolean> {
    await using api = await connect(runDir);
    const asked = { schema: Description, timeoutMs: API_TIMEOUT_MS };
    return (await api.ask(DESCRIBE_REQUEST, asked)).state === "Running";
  }

  /** It tells the guest of a write that fails, and stops nothing. */
  async isStalled(): Promise<boolean> {
    return false;
  }

  async endStall(): Promise<boolean> {
    return false;
  }

  async hold(runDir: string, shares: DeviceShares): Promise<void> {
    await using api = await connect(runDir);
    for (const request of holdRequests(shares)) await api.send(request, API_TIMEOUT_MS);
  }

  async pauseAndSave(
    runDir: string,
    { dir, isReady }: { dir: string; isReady: Promise<unknown> },
  ): Promise<LiveMemory> {
    await using api = await connect(runDir);
    const [memory] = await Promise.all([this.memoryOf(runDir), isReady]);
    await api.send(PAUSE_REQUEST, API_TIMEOUT_MS);
    await saveState(api);
    const state = await readVmmFile(join(runDir, OWN_DIR, STATE_FILE), {
      what: "Firecracker's device state",
      bytesMax: STATE_BYTES_MAX,
    });
    await writeFile(join(dir, STATE_FILE), state, { mode: 0o600 });
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
    if (memory.kind === "map") {
      await writeMemorySource(spec.runDir, memory);
      const files: JailFile[] = [{ name: JAIL_FILE.ram, path: memory.file, access: "ro" }];
      return { files, devices: [], pager: null };
    }
    await writeMemorySource(spec.runDir, { kind: "uffd" });
    const dir = await makePagerDir(spec.runDir, memory.pager.uid);
    const program = join(this.#options.nativeDir, "pager");
    return {
      files: [{ name: JAIL_FILE.pager, path: join(dir, PAGER_SOCKET), access: "rw" }],
      devices: ["/dev/userfaultfd"],
      pager: { dir, command: pagerCommand(program, { ...memory.pager, vmmUid: spec.uid }) },
    };
  }

  async #start(spec: VmmSpec, start: Start): Promise<KeptProcess> {
    const own = join(spec.runDir, OWN_DIR);
    await mkdir(own, { mode: 0o700 });
    await chown(own, spec.uid, spec.uid);
    const disk = await stat(spec.rootDisk);
    return startKeeper(this.#options.nativeDir, {
      ...spec,
      tap: null,
      control: null,
      cgroupProcsFiles: spec.cgroup.procsFiles,
      files: [
        { name: JAIL_FILE.program, path: this.#options.program, access: "rx" },
        { name: JAIL_FILE.disk, path: spec.rootDisk, access: "rw" },
        { name: JAIL_FILE.own, path: own, access: "rw" },
        ...start.files,
      ],
      devices: ["/dev/kvm", "/dev/net/tun", ...start.devices],
      environment: {},
      pager: start.pager,
      // The disk apart, it writes its state.
      fileMaxBytes: Math.max(disk.size, STATE_BYTES_MAX),
      command: [
        `/vm/${JAIL_FILE.program}`,
        ...["--id", spec.capsuleId],
        ...["--api-sock", `/vm/${JAIL_FILE.own}/${API_SOCKET}`],
        // What it logs goes to the guest's console.
        ...["--level", "Error"],
      ],
    });
  }
}

function checkShape({ vcpus, memoryMib }: CapsuleShape): void {
  if (vcpus > VCPUS_MAX) throw new VmmError(`Firecracker has at most ${VCPUS_MAX} vCPUs`);
  if (memoryMib > MEMORY_MIB_MAX) {
    throw new VmmError(`With Firecracker a guest has at most ${MEMORY_MIB_MAX} MiB of memory`);
  }
}

function kernelFiles({ kernel: { vmlinux, initrd } }: VmmSpec): JailFile[] {
  const files: JailFile[] = [{ name: JAIL_FILE.kernel, path: vmlinux, access: "ro" }];
  if (initrd !== null) files.push({ name: JAIL_FILE.initrd, path: initrd, access: "ro" });
  return files;
}

async function saveState(api: VmmApi): Promise<void> {
  try {
    await api.send(SAVE_STATE_REQUEST, API_TIMEOUT_MS);
  } catch (error) {
    if (error instanceof ApiRefusal && isStateOnlySaved(error.reason)) return;
    throw error;
  }
  throw new VmmError("Firecracker wrote a guest's memory where there is no directory");
}

function connect(runDir: string): Promise<VmmApi> {
  return VmmApi.connect(join(runDir, OWN_DIR), { name: API_SOCKET });
}

function connectToNew(runDir: string, { exited }: VmmProcess): Promise<VmmApi> {
  const start = { timeoutMs: START_TIMEOUT_MS, ended: exited };
  return VmmApi.connect(join(runDir, OWN_DIR), { name: API_SOCKET, start });
}
