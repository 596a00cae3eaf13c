/**
 * The driver of Cloud Hypervisor.
 *
 * A guest that boots shares its memory's file, one that is restored maps a flat file privately, so each pause saves its
 * state only (cloud-hypervisor-state.ts). Memory that a pager brings it does not take.
 *
 * A guest that resets is booted again in place by this VMM, which has no switch for that; nobody would tell it who it
 * is. It finds no kernel then: what it boots is a copy that is cut once it runs, and a restored one has none. So a
 * reset ends it, as under every VMM.
 *
 * Its jail is the keeper's. Its seccomp filters are its own, for each thread, and so is Landlock, where the kernel has
 * it (Linux 6.2): beside a guest it opens its disk, its memory and its own directory, and not what else is in the jail.
 */

import { constants } from "node:fs";
import { chown, copyFile, mkdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import type { CgroupLimits } from "../../cgroups/cgroups.ts";
import { callOff, endedOnFailure, KeptProcess } from "../../keeper/kept-process.ts";
import { type JailFile, startKeeper } from "../../keeper/start-keeper.ts";
import { createGuestRam } from "../../memory/guest-ram.ts";
import { readMemorySource, writeMemorySource } from "../../memory/memory-source.ts";
import {
  type CapsuleShape,
  type LiveMemory,
  type SavedGuest,
  type Vmm,
  VmmError,
  type VmmProcess,
  type VmmSpec,
} from "../../vmm/vmm.ts";
import { readVmmFile } from "../api/read-vmm-file.ts";
import { ApiRefusal, VmmApi } from "../api/vmm-api.ts";
import { bootCommand, JAIL_FILE, restoreCommand } from "./cloud-hypervisor-command.ts";
import {
  CONFIG_FILE,
  DESCRIBE_REQUEST,
  isStateOnlySaved,
  PAUSE_REQUEST,
  packState,
  RANGES_FILE,
  RESUME_REQUEST,
  SAVE_REQUEST,
  STATE_FILE,
  unpackState,
} from "./cloud-hypervisor-state.ts";

const CONTROL = "api.sock";
const OWN_DIR = "vmm";
const SAVED_FILE = "device-state";
const MIB = 1024 * 1024;
const START_TIMEOUT_MS = 30_000;
const START_POLL_MS = 2;
const API_TIMEOUT_MS = 30_000;
/** 62 KB with one vCPU. */
const STATE_BYTES_MAX = 4 * MIB;

// What it needs besides guest RAM: some 10 MiB of its own, page tables, buffers, and the page cache of its disk.
const VMM_MEMORY_MIB = 96;
const VCPU_MEMORY_MIB = 8;
/** Where truncation is an access of its own; it insists on that. */
const LANDLOCK_VERSION_MIN = 3;
// Main thread, VMM, API, signals, and some for each device.
const VMM_THREADS = 32;

const Description = Type.Object({ state: Type.String({ maxLength: 64 }) });

export interface CloudHypervisorOptions {
  /** No link: the jail shows this very file. */
  readonly program: string;
  readonly version: string;
  readonly nativeDir: string;
  /** The kernel's version of Landlock; 0: none. */
  readonly landlockVersion: number;
}

export class CloudHypervisor implements Vmm {
  readonly name = "cloud-hypervisor";
  readonly accel = "kvm";
  readonly cpu = null;
  readonly takesPager = false;
  readonly version: string;
  readonly #options: CloudHypervisorOptions;
  readonly #hasLandlock: boolean;

  constructor(options: CloudHypervisorOptions) {
    this.version = options.version;
    this.#options = options;
    this.#hasLandlock = options.landlockVersion >= LANDLOCK_VERSION_MIN;
  }

  limits({ vcpus, memoryMib }: CapsuleShape): CgroupLimits {
    return {
      memoryBytes: (memoryMib + VMM_MEMORY_MIB + vcpus * VCPU_MEMORY_MIB) * MIB,
      cpus: vcpus,
      pids: VMM_THREADS + vcpus,
    };
  }

  async boot(spec: VmmSpec): Promise<VmmProcess> {
    const command = bootCommand({ ...spec, hasLandlock: this.#hasLandlock });
    const ram = await createGuestRam(spec.runDir, { sizeMib: spec.memoryMib, uid: spec.uid });
    await writeMemorySource(spec.runDir, { kind: "file", path: ram });
    const kernel = join(spec.runDir, JAIL_FILE.kernel);
    await copyFile(spec.kernel.vmlinux, kernel, constants.COPYFILE_EXCL);
    await chown(kernel, spec.uid, spec.uid);
    const { initrd } = spec.kernel;
    const process = await this.#start(spec, command, [
      { name: JAIL_FILE.ram, path: ram, access: "rw" },
      { name: JAIL_FILE.kernel, path: kernel, access: "ro" },
      ...(initrd === null ? [] : [{ name: JAIL_FILE.initrd, path: initrd, access: "ro" } as const]),
    ]);
    return endedOnFailure(process, "Cloud Hypervisor did not start", async () => {
      await awaitState(spec.runDir, process, "Running");
      await truncate(kernel);
    });
  }

  async restore(spec: VmmSpec, saved: SavedGuest): Promise<VmmProcess> {
    if (saved.memory.kind !== "map") {
      throw new VmmError("Cloud Hypervisor takes no memory that a pager brings");
    }
    const packed = await readFile(join(saved.dir, SAVED_FILE), "utf8");
    const files = unpackState(packed, { hasLandlock: this.#hasLandlock });
    const loaded = join(spec.runDir, JAIL_FILE.loaded);
    await mkdir(loaded, { mode: 0o700 });
    await writeFile(join(loaded, CONFIG_FILE), files.config, { mode: 0o600 });
    await writeFile(join(loaded, STATE_FILE), files.state, { mode: 0o600 });
    for (const path of [loaded, join(loaded, CONFIG_FILE), join(loaded, STATE_FILE)]) {
      await chown(path, spec.uid, spec.uid);
    }
    await writeMemorySource(spec.runDir, saved.memory);
    const process = await this.#start(spec, restoreCommand(), [
      { name: JAIL_FILE.ram, path: saved.memory.file, access: "ro" },
      { name: JAIL_FILE.loaded, path: loaded, access: "ro" },
    ]);
    return endedOnFailure(process, "Cloud Hypervisor did not restore its guest", () =>
      awaitState(spec.runDir, process, "Paused"),
    );
  }

  async pause(runDir: string): Promise<void> {
    await using api = await connect(runDir);
    await pause(api);
  }

  async resume(runDir: string): Promise<void> {
    await using api = await connect(runDir);
    if ((await describe(api)) !== "Running") await api.send(RESUME_REQUEST, API_TIMEOUT_MS);
  }

  async isRunning(runDir: string): Promise<boolean> {
    await using api = await connect(runDir);
    return (await describe(api)) === "Running";
  }

  /** It tells the guest of a write that fails, and stops nothing. */
  async isStalled(): Promise<boolean> {
    return false;
  }

  async endStall(): Promise<boolean> {
    return false;
  }

  /** The host does. */
  async hold(): Promise<void> {}

  async pauseAndSave(
    runDir: string,
    { dir, isReady }: { dir: string; isReady: Promise<unknown> },
  ): Promise<LiveMemory> {
    await using api = await connect(runDir);
    const own = join(runDir, OWN_DIR);
    for (const name of [CONFIG_FILE, STATE_FILE]) await rm(join(own, name), { force: true });
    const [memory] = await Promise.all([this.memoryOf(runDir), isReady]);
    await pause(api);
    await saveState(api);
    const config = await readOwn(join(own, CONFIG_FILE));
    const state = await readOwn(join(own, STATE_FILE));
    await writeFile(join(dir, SAVED_FILE), packState({ config, state }), { mode: 0o600 });
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

  async #start(
    spec: VmmSpec,
    command: readonly string[],
    files: readonly JailFile[],
  ): Promise<KeptProcess> {
    const own = join(spec.runDir, OWN_DIR);
    await mkdir(own, { mode: 0o700 });
    await mkdir(join(own, RANGES_FILE), { mode: 0o700 });
    await chown(own, spec.uid, spec.uid);
    const disk = await stat(spec.rootDisk);
    return startKeeper(this.#options.nativeDir, {
      ...spec,
      control: CONTROL,
      cgroupProcsFiles: spec.cgroup.procsFiles,
      files: [
        { name: JAIL_FILE.program, path: this.#options.program, access: "rx" },
        { name: JAIL_FILE.disk, path: spec.rootDisk, access: "rw" },
        { name: JAIL_FILE.own, path: own, access: "rw" },
        ...files,
      ],
      devices: ["/dev/kvm", "/dev/urandom"],
      environment: {},
      pager: null,
      fileMaxBytes: Math.max(disk.size, spec.memoryMib * MIB),
      command,
    });
  }
}

async function pause(api: VmmApi): Promise<void> {
  if ((await describe(api)) !== "Paused") await api.send(PAUSE_REQUEST, API_TIMEOUT_MS);
}

async function describe(api: VmmApi): Promise<string> {
  const asked = { schema: Description, timeoutMs: API_TIMEOUT_MS };
  return (await api.ask(DESCRIBE_REQUEST, asked)).state;
}

async function saveState(api: VmmApi): Promise<void> {
  try {
    await api.send(SAVE_REQUEST, API_TIMEOUT_MS);
  } catch (error) {
    if (!(error instanceof ApiRefusal) || !isStateOnlySaved(error.reason)) throw error;
  }
}

async function readOwn(path: string): Promise<string> {
  const file = { what: "Cloud Hypervisor's state", bytesMax: STATE_BYTES_MAX };
  return (await readVmmFile(path, file)).toString("utf8");
}

function connect(runDir: string): Promise<VmmApi> {
  return VmmApi.connect(runDir, { name: CONTROL });
}

/** Until then it refuses to describe a guest that it has not made yet. Throws VmmError. */
async function awaitState(runDir: string, { exited }: VmmProcess, wanted: string): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  let ended = false;
  void exited.then(() => {
    ended = true;
  });
  let seen = "nothing";
  await using api = await connect(runDir);
  while (!ended && performance.now() < deadline) {
    seen = await describe(api).catch((error: unknown) => {
      if (error instanceof ApiRefusal) return error.reason;
      throw error;
    });
    if (seen === wanted) return;
    await Bun.sleep(START_POLL_MS);
  }
  throw new VmmError(`Cloud Hypervisor did not get to ${wanted}: ${seen}`);
}
