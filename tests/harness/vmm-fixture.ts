// What a VMM needs around it, on this machine: a network namespace with a TAP, control groups, a run
// directory on a tmpfs and a user id. Everything is removed at the end.

import { chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { type CapsuleCgroup, Cgroups } from "../../agent/cgroups/cgroups.ts";
import type { CgroupLimits } from "../../agent/cgroups/limit-files.ts";
import { mountRunDir, unmountRunDir } from "../../agent/memory/run-dir.ts";
import { Kernel } from "../../agent/native/kernel.ts";

const BUILD = join(import.meta.dirname, "../../build");
export const NATIVE_DIR = join(BUILD, "native");
export const KERNELS_DIR = join(BUILD, "kernel");
export const BASE_IMAGE = join(BUILD, "rootfs/minimal-debian.ext4");

export interface VmmFixture extends AsyncDisposable {
  readonly kernel: Kernel;
  readonly cgroups: Cgroups;
  /** On a disk, root's alone, for logs and caches. */
  readonly dir: string;
  readonly netns: string;
  readonly tap: "tap0";
  readonly uid: number;
  /** A new run directory. */
  makeRunDir(capsuleId: string): Promise<string>;
  makeCgroup(capsuleId: string, limits: CgroupLimits): Promise<CapsuleCgroup>;
  /** A root disk of its own, from the base image. */
  makeRootDisk(capsuleId: string): Promise<string>;
}

/** `tag`: four characters that no other test uses; `uid` likewise. */
export async function openVmmFixture(tag: string, uid: number): Promise<VmmFixture> {
  // What was made before a step failed goes at once.
  await using stack = new AsyncDisposableStack();
  const kernel = stack.use(await Kernel.open(NATIVE_DIR));
  const dir = await mkdtemp("/var/tmp/wrenn-vmm-");
  stack.defer(() => rm(dir, { recursive: true }));
  const runs = join(dir, "run");
  await mountRunDir(kernel, runs, { hasHugePages: false });
  stack.defer(() => unmountRunDir(kernel, runs));
  const cgroups = await Cgroups.open(tag);
  stack.defer(() => cgroups.removeAll());
  const netns = `wrenn-${tag}-test`;
  await kernel.network.createNetns(netns);
  stack.defer(async () => {
    await kernel.network.deleteNetns(netns);
  });
  await kernel.network.createTap({ netns, name: "tap0" }, uid);
  const kept = stack.move();
  return {
    ...{ kernel, cgroups, dir, netns, tap: "tap0", uid },
    async makeRunDir(capsuleId) {
      const path = join(runs, capsuleId);
      await mkdir(path, { mode: 0o700 });
      return path;
    },
    makeCgroup: (capsuleId, limits) => cgroups.create({ capsuleId, ...limits }),
    async makeRootDisk(capsuleId) {
      const path = join(dir, `${capsuleId}.ext4`);
      await kernel.storage.copySparse(BASE_IMAGE, path);
      await chown(path, uid, uid);
      return path;
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
