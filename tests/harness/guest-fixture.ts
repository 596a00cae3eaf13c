// Real guests with a network, on this machine, for tests below the agent's own: the image that was
// built, the driver of this host's VMM, the guest agent's client. Everything is removed at the end.

import { chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { Cgroups } from "../../agent/cgroups/cgroups.ts";
import { type ChooseVmmOptions, chooseVmm, openVmm } from "../../agent/drivers/open-vmm.ts";
import { exec } from "../../agent/guest/exec.ts";
import { Guest } from "../../agent/guest/guest.ts";
import { StreamBudget } from "../../agent/guest/stream-budget.ts";
import { Log } from "../../agent/log.ts";
import { mountRunDir, unmountRunDir } from "../../agent/memory/run-dir.ts";
import { Kernel } from "../../agent/native/kernel.ts";
import { NetworkPool } from "../../agent/network/network-pool.ts";
import type { NetworkSlot } from "../../agent/network/slot.ts";
import { findGuestKernel } from "../../agent/rootfs/guest-kernel.ts";
import type { CapsuleShape, Vmm, VmmSpec } from "../../agent/vmm/vmm.ts";
import { BASE_IMAGE, KERNELS_DIR, NATIVE_DIR } from "./vmm-fixture.ts";
import { waitFor } from "./wait-for.ts";

const log = new Log({ level: "warn", write: console.error });
const ANSWER_TIMEOUT_MS = 180_000;
const TRY_MS = 500;
const TOKEN = "t".repeat(32);

export interface GuestFixture extends AsyncDisposable {
  readonly kernel: Kernel;
  readonly vmm: Vmm;
  /** On a disk, with reflinks. */
  readonly dir: string;
  /** A new run directory, with a slot, a cgroup and, unless `rootDisk` is given, a fresh disk. */
  makeSpec(capsuleId: string, shape: CapsuleShape, rootDisk?: string): Promise<VmmSpec>;
  /** The guest of that spec, once it answers. */
  awaitGuest(spec: VmmSpec): Promise<TestGuest>;
  /** What makeSpec made, but the disk; its VMM must have ended. */
  clear(spec: VmmSpec): Promise<void>;
}

export class TestGuest {
  readonly guest: Guest;

  constructor(guest: Guest) {
    this.guest = guest;
  }

  /** Runs a script as root; throws unless it exits with 0. */
  async run(script: string, timeoutMs = 120_000): Promise<string> {
    const command = { cmd: "/bin/bash", args: ["-c", script], envs: {}, cwd: "/", user: "root" };
    const caller = new AbortController().signal;
    const { stdout, stderr, exitCode } = await exec(this.guest, command, { timeoutMs, caller });
    if (exitCode === 0) return Buffer.from(stdout).toString().trim();
    throw new Error(`${script}: ${exitCode}: ${Buffer.from(stderr).toString()}`);
  }
}

/** `tag`: four characters that no other test uses. */
export async function openGuestFixture(
  tag: string,
  wanted: ChooseVmmOptions["vmm"] = chosenVmm(),
): Promise<GuestFixture> {
  // What was made before a step failed goes at once.
  await using stack = new AsyncDisposableStack();
  const kernel = stack.use(await Kernel.open(NATIVE_DIR));
  const home = await mkdtemp("/var/tmp/wrenn-guests-");
  stack.defer(() => rm(home, { recursive: true }));
  const dir = join(home, "xfs");
  await mountXfs(`${home}/image`, dir);
  stack.defer(() => run(["umount", dir]));
  const runs = join(dir, "run");
  await mountRunDir(kernel, runs, { hasHugePages: false });
  stack.defer(() => unmountRunDir(kernel, runs));
  const cgroups = await Cgroups.open(tag);
  stack.defer(() => cgroups.removeAll());
  const network = await NetworkPool.open({ kernel, log, tag, owner: dir, ready: 0, keep: [] });
  stack.defer(async () => {
    await network.close();
    await network.removeAll();
  });
  const tscKhz = await kernel.tscKhz();
  const choice = await chooseVmm({
    vmm: wanted,
    firecrackerBin: process.env.WRENN_FIRECRACKER_BIN || null,
    cloudHypervisorBin: process.env.WRENN_CLOUD_HYPERVISOR_BIN || null,
    cpu: null,
    hasHugePages: false,
    nativeDir: NATIVE_DIR,
    cacheDir: dir,
  });
  const host = { nativeDir: NATIVE_DIR, tscKhz, landlockVersion: kernel.landlockVersion() };
  const vmm = openVmm(choice, host);
  const guestKernel = await findGuestKernel(KERNELS_DIR);
  const baseDisk = join(dir, "base.ext4");
  await kernel.storage.copySparse(BASE_IMAGE, baseDisk);
  const slots = new Map<string, NetworkSlot>();
  const budget = new StreamBudget(64);
  const kept = stack.move();

  async function makeSpec(capsuleId: string, shape: CapsuleShape, rootDisk?: string) {
    const slot = await network.acquire();
    slots.set(capsuleId, slot);
    const runDir = join(runs, capsuleId);
    await mkdir(runDir, { mode: 0o700 });
    const disk = rootDisk ?? join(dir, `${capsuleId}.ext4`);
    if (rootDisk === undefined) await kernel.storage.reflink(baseDisk, disk);
    await chown(disk, slot.vmmUid, slot.vmmUid);
    return {
      ...shape,
      ...{ capsuleId, runDir, kernel: guestKernel, rootDisk: disk },
      ...{ netns: slot.netns, tap: slot.tap, uid: slot.vmmUid },
      cmdlineExtra: [`wrenn.capsule=${capsuleId}`],
      consoleLog: join(dir, `${capsuleId}.console.log`),
      cgroup: await cgroups.create({ capsuleId, ...vmm.limits(shape) }),
    };
  }

  async function awaitGuest(spec: VmmSpec): Promise<TestGuest> {
    const slot = slots.get(spec.capsuleId);
    if (slot === undefined) throw new Error(`${spec.capsuleId} has no slot`);
    const guest = new Guest({ hostIp: slot.hostIp, accessToken: TOKEN, teamId: "team", budget });
    const look = () => guest.health(AbortSignal.timeout(TRY_MS)).then(() => "healthy", String);
    const holds = (seen: string) => seen === "healthy";
    await waitFor(`envd in ${spec.capsuleId}`, look, { holds, timeoutMs: ANSWER_TIMEOUT_MS });
    const identity = { capsuleId: spec.capsuleId, templateId: "test", defaultUser: "root" };
    await guest.init({ ...identity, envs: {} }, new Date());
    return new TestGuest(guest);
  }

  async function clear(spec: VmmSpec): Promise<void> {
    const slot = slots.get(spec.capsuleId);
    slots.delete(spec.capsuleId);
    if (slot !== undefined) await network.release(slot.index);
    await cgroups.remove(spec.capsuleId);
    await rm(spec.runDir, { recursive: true, force: true });
  }

  return {
    ...{ kernel, vmm, dir, makeSpec, awaitGuest, clear },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Another VMM than the host's best, as the agent is told, too. */
function chosenVmm(): ChooseVmmOptions["vmm"] {
  const wanted = process.env.WRENN_VMM || "auto";
  const found = (["auto", "qemu", "firecracker", "cloud-hypervisor"] as const).find(
    (name) => name === wanted,
  );
  if (found !== undefined) return found;
  throw new Error(`WRENN_VMM: there is no ${wanted}`);
}

// As a host for production has it; whatever this machine's own disk can do.
async function mountXfs(image: string, at: string): Promise<void> {
  await mkdir(at);
  await run(["truncate", "--size", "16G", image]);
  await run(["mkfs.xfs", "-q", "-m", "reflink=1", image]);
  await run(["mount", "-o", "loop,discard", image, at]);
}

async function run(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdio: ["ignore", "ignore", "pipe"] });
  const [status, text] = [await child.exited, await new Response(child.stderr).text()];
  if (status !== 0) throw new Error(`${command.join(" ")}: ${text}`);
}
