// Opens what a host has below its capsules, from the kernel up: each part needs those before it.

import { dirname, resolve } from "node:path";
import { Cgroups } from "./cgroups/cgroups.ts";
import type { Config } from "./config.ts";
import { chooseVmm, describeChoice, openVmm } from "./drivers/open-vmm.ts";
import type { Failpoints } from "./failpoints.ts";
import { openHostDir } from "./host-dir.ts";
import { Journal } from "./journal/journal.ts";
import type { Log } from "./log.ts";
import { openShares } from "./machine/host-shares.ts";
import { mountRunDir, unmountRunDir } from "./memory/run-dir.ts";
import { Kernel } from "./native/kernel.ts";
import { NetworkPool } from "./network/network-pool.ts";
import { findGuestKernel } from "./rootfs/guest-kernel.ts";
import { Images } from "./rootfs/images.ts";
import { openRootDisks } from "./rootfs/open-root-disks.ts";
import { Snapshots } from "./snapshots/snapshots.ts";

export type Host = Awaited<ReturnType<typeof openHost>>;

/**
 * Opens all of it, and hands to `resources` what has to be closed again. Throws a sentence that says what
 * the machine lacks; what was opened until then is with `resources`.
 */
export async function openHost(
  config: Config,
  {
    failpoints,
    log,
    resources,
  }: { failpoints: Failpoints; log: Log; resources: AsyncDisposableStack },
) {
  const nativeDir = config.nativeDir ?? defaultNativeDir();
  const kernel = resources.use(await Kernel.open(nativeDir));
  const dir = resources.adopt(await openHostDir(config.dir, kernel), (dir) => dir.unlock());
  const { tag, cacheDir } = dir;
  await mountRunDir(kernel, dir.runDir, config);
  const journal = resources.use(new Journal(dir.journalPath));
  const cgroups = await Cgroups.open(tag);
  const shares = await openShares(config.shares, { dir: dir.path, cgroups, kernel });
  const images = new Images(dir.imagesDir, kernel);
  const disks = await openRootDisks({ dir: dir.sandboxesDir, cow: config.cow, kernel, tag });
  const guestKernel = await findGuestKernel(dir.kernelsDir);
  const tscKhz = await kernel.tscKhz();
  const choice = await chooseVmm({ ...config, nativeDir, cacheDir });
  log.info("agent.vmm-chosen", { vmm: describeChoice(choice) });
  const vmm = openVmm(choice, { nativeDir, tscKhz, landlockVersion: kernel.landlockVersion() });
  const places = { dir: dir.snapshotsDir, flatDir: dir.flatDir };
  const snapshots = await Snapshots.open({ ...places, kernel, vmm, failpoints });
  const network = await NetworkPool.open({
    kernel,
    log,
    tag,
    owner: dir.path,
    ready: config.networkPoolSize,
    uidBase: config.uidBase,
    keep: journal.rows().flatMap((row) => row.slot ?? []),
  });
  resources.defer(() => network.close());
  const below = { dir, kernel, journal, cgroups, shares, images, disks, guestKernel };
  return { ...below, vmm, snapshots, network };
}

/** Leaves nothing of this agent on the machine but its directory; no capsule may run. */
export async function clearHost({ kernel, network, cgroups, dir }: Host): Promise<void> {
  await network.removeAll();
  await cgroups.removeAll();
  await unmountRunDir(kernel, dir.runDir);
}

/** Beside the compiled program, or where `make native` puts it when run from source. */
export function defaultNativeDir(): string {
  return import.meta.url.startsWith("file:///$bunfs/")
    ? dirname(process.execPath)
    : resolve(import.meta.dirname, "../build/native");
}
