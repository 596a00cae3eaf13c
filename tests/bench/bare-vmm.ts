// The bare VMM: QEMU with the flags that the agent gives it, on a ready network and a cloned disk, without
// control plane, agent, keeper, jail or cgroup. What the platform adds is measured against it.

import { mkdtemp, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Kernel } from "../../agent/native/kernel.ts";
import { NetworkPool, type NetworkSlot } from "../../agent/network/network-pool.ts";
import { findGuestKernel, type GuestKernel } from "../../agent/vmm/guest-kernel.ts";
import { qemuCommand } from "../../agent/vmm/qemu-command.ts";
import { VMM_FD } from "../../agent/vmm/start-keeper.ts";
import { Process } from "../../proto/gen/envd/process_pb.js";
import type { Capsule } from "../harness/client.ts";
import { platform } from "../harness/platform.ts";
import { runDirectly } from "./guest-baseline.ts";
import { timed } from "./rows.ts";

const NATIVE_DIR = resolve(import.meta.dirname, "../../build/native");
const TAG = "bnch";

export class BareVmm implements AsyncDisposable {
  readonly #kernel: Kernel;
  readonly #network: NetworkPool;
  readonly #dir: string;
  readonly #agentDir: string;
  readonly #guestKernel: GuestKernel;
  readonly #tscKhz: number;

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

  static async open(): Promise<BareVmm> {
    const { agentDir } = (await platform()).dir;
    const kernel = await Kernel.open(NATIVE_DIR);
    // Beside the platform's root disks, so that both sides clone on one file system.
    const dir = await mkdtemp(join(agentDir, "bench-"));
    const network = await NetworkPool.open({ kernel, tag: TAG, owner: dir, ready: 1, keep: [] });
    const guestKernel = await findGuestKernel(join(agentDir, "kernels"));
    const tscKhz = await kernel.tscKhz();
    return new BareVmm({ kernel, network, dir, agentDir, guestKernel, tscKhz });
  }

  /** Milliseconds from starting QEMU to the end of a first `/bin/true` in the guest. */
  async bootAndExec(shape: Pick<Capsule, "vcpus" | "memory_mb">): Promise<number> {
    const slot = await this.#network.acquire();
    const base = join(this.#agentDir, "images/teams", "0".repeat(25), `${"0".repeat(24)}4`);
    let qemu: Bun.Subprocess | undefined;
    try {
      return await timed(async () => {
        await Bun.$`cp --reflink=auto --sparse=always ${base}/rootfs.ext4 ${this.#dir}/disk`.quiet();
        await Bun.$`truncate -s ${shape.memory_mb}M ${this.#dir}/ram`.quiet();
        qemu = this.#start(slot, shape);
        await this.#execTrue(slot);
      });
    } finally {
      qemu?.kill("SIGKILL");
      await qemu?.exited;
      await this.#network.release(slot.index);
      await rm(join(this.#dir, "disk"), { force: true });
      await rm(join(this.#dir, "ram"), { force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#network.removeAll();
    await this.#network.close();
    await this.#kernel.close();
    await rm(this.#dir, { recursive: true, force: true });
  }

  #start(slot: NetworkSlot, shape: Pick<Capsule, "vcpus" | "memory_mb">): Bun.Subprocess {
    const command = qemuCommand({
      program: "qemu-system-x86_64",
      capsuleId: "bench",
      accel: "tcg",
      kernel: this.#guestKernel,
      cmdlineExtra: [],
      tscKhz: this.#tscKhz,
      vcpus: shape.vcpus,
      memoryMib: shape.memory_mb,
    });
    // The jail's names become real ones, the keeper's descriptors a device and a socket.
    const names: [string, string][] = [
      ["/vm/kernel", this.#guestKernel.vmlinux],
      ["/vm/initrd", this.#guestKernel.initrd ?? ""],
      ["/vm/disk", join(this.#dir, "disk")],
      ["/vm/ram", join(this.#dir, "ram")],
      [`tap,id=net0,fd=${VMM_FD.tap}`, `tap,id=net0,ifname=${slot.tap},script=no,downscript=no`],
      [`socket,id=qmp,fd=${VMM_FD.control}`, `socket,id=qmp,path=${join(this.#dir, "qmp.sock")}`],
    ];
    const bare = command.map((word) =>
      names.reduce((text, [from, to]) => text.replaceAll(from, to), word),
    );
    return Bun.spawn(["ip", "netns", "exec", slot.netns, ...bare], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  async #execTrue(slot: NetworkSlot): Promise<void> {
    const baseUrl = `http://${slot.hostIp}:49983`;
    for (;;) {
      const signal = AbortSignal.timeout(500);
      const health = await fetch(`${baseUrl}/health`, { signal }).catch(() => null);
      if (health?.ok) break;
      await Bun.sleep(10);
    }
    const token = crypto.randomUUID();
    const init = await fetch(`${baseUrl}/init`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-access-token": token },
      body: JSON.stringify({ accessToken: token, timestamp: new Date().toISOString() }),
    });
    if (!init.ok) throw new Error(`/init answered ${init.status}`);
    const transport = createConnectTransport({
      baseUrl,
      useBinaryFormat: true,
      interceptors: [
        (next) => (request) => {
          request.header.set("X-Access-Token", token);
          return next(request);
        },
      ],
    });
    await runDirectly(createClient(Process, transport), "/bin/true");
  }
}
