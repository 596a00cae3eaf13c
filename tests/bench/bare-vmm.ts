// The bare VMM: QEMU with the flags that the agent gives it, on a ready network and a cloned disk, without
// control plane, agent, keeper, jail or cgroup. What the platform adds is measured against it.

import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import {
  JAIL_FILE,
  preloadEnvironment,
  qemuCommand,
} from "../../agent/drivers/qemu/qemu-command.ts";
import { VMM_FD } from "../../agent/keeper/start-keeper.ts";
import { Log } from "../../agent/log.ts";
import { DescriptorSender } from "../../agent/native/descriptor-sender.ts";
import { Kernel } from "../../agent/native/kernel.ts";
import { NetworkPool, type NetworkSlot } from "../../agent/network/network-pool.ts";
import { findGuestKernel } from "../../agent/rootfs/guest-kernel.ts";
import type { GuestKernel } from "../../agent/vmm/vmm.ts";
import type { Capsule } from "../harness/client.ts";
import { platform } from "../harness/platform.ts";
import { BareMachine } from "./bare-machine.ts";
import { timed } from "./rows.ts";

const log = new Log({ level: "warn", write: console.error });
const NATIVE_DIR = resolve(import.meta.dirname, "../../build/native");
const TAG = "bnch";
/** A machine that outlived a benchmark that was killed would keep the platform's disk busy. */
const DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"];
/** A tmpfs: there the RAM of a guest that boots lies, as the platform's does. */
const RAM_DIR = "/dev/shm/wrenn-bench";

export type BareShape = Pick<Capsule, "vcpus" | "memory_mb">;

/** A guest that has run a first command, saved as the agent saves a warm one: RAM in a flat file. */
export interface BareSnapshot {
  readonly shape: BareShape;
  readonly dir: string;
}

export class BareVmm implements AsyncDisposable {
  readonly #kernel: Kernel;
  readonly #network: NetworkPool;
  readonly #dir: string;
  readonly #agentDir: string;
  readonly #guestKernel: GuestKernel;
  readonly #tscKhz: number;
  readonly #sender = new DescriptorSender(NATIVE_DIR);

  private constructor(parts: {
    kernel: Kernel;
    network: NetworkPool;
    dir: string;
    agentDir: string;
    guestKernel: GuestKernel;
    tscKhz: number;
  }) {
    this.#kernel = parts.kernel;
    this.#network = parts.network;
    this.#dir = parts.dir;
    this.#agentDir = parts.agentDir;
    this.#guestKernel = parts.guestKernel;
    this.#tscKhz = parts.tscKhz;
  }

  /** `ready`: how many machines are started at once without waiting for a network. */
  static async open(ready = 1): Promise<BareVmm> {
    const { agentDir } = (await platform()).dir;
    const kernel = await Kernel.open(NATIVE_DIR);
    // Beside the platform's root disks, so that both sides clone on one file system. The name stays the
    // same: whoever has it may take over the networks of a run that was killed.
    const dir = join(agentDir, "bench");
    for (const path of [dir, RAM_DIR]) {
      await rm(path, { recursive: true, force: true });
      await mkdir(path, { mode: 0o700 });
    }
    const network = await NetworkPool.open({ kernel, log, tag: TAG, owner: dir, ready, keep: [] });
    const guestKernel = await findGuestKernel(join(agentDir, "kernels"));
    const tscKhz = await kernel.tscKhz();
    return new BareVmm({ kernel, network, dir, agentDir, guestKernel, tscKhz });
  }

  /** Milliseconds from starting QEMU to the end of a first `/bin/true` in the guest. */
  async bootAndExec(shape: BareShape): Promise<number> {
    await using stack = new AsyncDisposableStack();
    return await timed(async () => {
      const machine = stack.use(await this.#boot(shape));
      await machine.awaitEnvd();
      await machine.init();
      await machine.execTrue();
    });
  }

  /** A machine that has booted and run a first command; its owner disposes of it. */
  async boot(shape: BareShape): Promise<BareMachine> {
    const machine = await this.#boot(shape);
    await machine.awaitEnvd();
    await machine.execTrue();
    return machine;
  }

  /** What restores are measured with; it goes with this object. */
  async makeSnapshot(shape: BareShape): Promise<BareSnapshot> {
    await using machine = await this.boot(shape);
    const dir = await mkdtemp(join(this.#dir, "snapshot-"));
    await machine.stopAndSave(dir);
    await this.#kernel.storage.reflink(machine.disk, join(dir, "disk"));
    await Bun.$`cp --reflink=auto --sparse=always ${machine.ram} ${dir}/ram`.quiet();
    await Bun.$`sync -f ${dir}/ram`.quiet();
    return { shape, dir };
  }

  /** From nothing to a guest that runs; its owner disposes of it. */
  async restore(from: BareSnapshot): Promise<BareMachine> {
    const slot = await this.#network.acquire();
    const dir = await mkdtemp(join(this.#dir, "machine-"));
    const disk = join(dir, "disk");
    await this.#kernel.storage.reflink(join(from.dir, "disk"), disk);
    const ram = join(from.dir, "ram");
    const machine = this.#start({ shape: from.shape, slot, dir, disk, ram, isIncoming: true });
    await machine.load(from.dir);
    return machine;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#network.removeAll();
    await this.#network.close();
    await this.#kernel.close();
    for (const path of [this.#dir, RAM_DIR]) await rm(path, { recursive: true, force: true });
  }

  async #boot(shape: BareShape): Promise<BareMachine> {
    const slot = await this.#network.acquire();
    const base = join(this.#agentDir, "images/teams", "0".repeat(25), `${"0".repeat(24)}4`);
    const dir = await mkdtemp(join(this.#dir, "machine-"));
    const disk = join(dir, "disk");
    const ram = join(RAM_DIR, String(slot.index));
    await Bun.$`cp --reflink=auto --sparse=always ${base}/rootfs.ext4 ${disk}`.quiet();
    await Bun.$`truncate -s ${shape.memory_mb}M ${ram}`.quiet();
    return this.#start({ shape, slot, dir, disk, ram, isIncoming: false });
  }

  #start(options: {
    shape: BareShape;
    slot: NetworkSlot;
    dir: string;
    disk: string;
    ram: string;
    isIncoming: boolean;
  }): BareMachine {
    const { shape, slot, dir, disk, ram, isIncoming } = options;
    const command = qemuCommand({
      program: "qemu-system-x86_64",
      capsuleId: "bench",
      accel: "tcg",
      cpu: null,
      kernel: this.#guestKernel,
      cmdlineExtra: [],
      tscKhz: this.#tscKhz,
      vcpus: shape.vcpus,
      memoryMib: shape.memory_mb,
      disk: "file",
      isIncoming,
    });
    // The jail's names become real ones, the keeper's descriptors a device and a socket.
    const names: [string, string][] = [
      [`/vm/${JAIL_FILE.preload}`, join(NATIVE_DIR, "wrenn-preload.so")],
      [`/vm/${JAIL_FILE.kernel}`, this.#guestKernel.vmlinux],
      [`/vm/${JAIL_FILE.initrd}`, this.#guestKernel.initrd ?? ""],
      [`/vm/${JAIL_FILE.disk}`, disk],
      [`/vm/${JAIL_FILE.ram}`, ram],
      [`tap,id=net0,fd=${VMM_FD.tap}`, `tap,id=net0,ifname=${slot.tap},script=no,downscript=no`],
      [`socket,id=qmp,fd=${VMM_FD.control}`, `socket,id=qmp,path=${join(dir, "qmp.sock")}`],
    ];
    const real = (word: string) =>
      names.reduce((text, [from, to]) => text.replaceAll(from, to), word);
    const preload = isIncoming ? Object.entries(preloadEnvironment("private")) : [];
    const env = preload.map(([name, value]) => `${name}=${real(value)}`);
    const enter = ["nsenter", `--net=/run/netns/${slot.netns}`];
    const qemu = Bun.spawn([...enter, ...DIES_WITH_US, "env", ...env, ...command.map(real)], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const free = async () => {
      await this.#network.release(slot.index);
      await rm(dir, { recursive: true, force: true });
      if (!isIncoming) await rm(ram, { force: true });
    };
    return new BareMachine({ qemu, dir, disk, ram, sender: this.#sender, free, slot });
  }
}
