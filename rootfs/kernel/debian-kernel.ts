// The quick start's guest kernel: Debian's cloud kernel as it is, with an initrd of our own that
// loads the few virtio drivers it has as modules. Nothing is installed on the host.

import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BuildError, inputsHash, run, step } from "../run.ts";
import { compileStatic, programSources } from "../static-program.ts";
import { withWorkDir } from "../work-dir.ts";
import { downloadPackage, findPackage, kernelVersion } from "./apt.ts";
import { cpioArchive } from "./cpio.ts";
import { readModules } from "./modules.ts";
import { readStamp, writeKernel } from "./output.ts";
import { extractVmlinux } from "./vmlinux.ts";

const META_PACKAGE = "linux-image-cloud-amd64";

/**
 * Drivers of the guest's devices, see docs of the VMM drivers: Cloud Hypervisor has them on a PCI bus. ptp_kvm is its
 * clock under KVM.
 */
const MODULES = [
  ...["virtio_mmio", "virtio_pci", "virtio_blk", "virtio_net", "virtio_rng"],
  ...["ptp_kvm", "tcp_diag"],
];

const DIRECTORY = 0o040755;
const EXECUTABLE = 0o100755;
const FILE = 0o100644;
const CHARACTER_DEVICE = 0o020600;

/**
 * Downloads Debian's kernel and writes `vmlinux-<version>` and `initrd-<version>` to `dir`.
 * Does nothing if they are there, made from the same package, or if an optimised kernel is.
 * @throws BuildError if the package can't be found or downloaded; the old kernel then stays.
 */
export async function buildDebianKernel(dir: string): Promise<void> {
  const own = programSources("initrd-init");
  const stamp = await readStamp(dir);
  if (stamp?.kind === "optimised")
    return console.log(`kernel: keeping the optimised ${stamp.version}`);
  const ours = await inputsHash([META_PACKAGE, ...MODULES], own);
  if (stamp?.inputs === ours) return console.log(`kernel: ${stamp.version} is up to date`);

  console.log("kernel:");
  await withWorkDir(dir, async (work) => {
    const image = await step(`find the package of ${META_PACKAGE}`, () =>
      findPackage(META_PACKAGE, /Depends: (linux-image-\S+)/),
    );
    const deb = await step(`download ${image.name} ${image.version}`, () =>
      downloadPackage(image.name, work),
    );
    const unpacked = join(work, "unpacked");
    await step("unpack", () => run(["dpkg-deb", "-x", deb, unpacked]));
    const vmlinux = await step("take the vmlinux out of the bzImage", () => vmlinuxOf(unpacked));
    const initrd = await step("make the initrd", () => initrdOf(unpacked, work));
    const version = kernelVersion(image.version);
    await writeKernel(dir, { vmlinux, initrd }, { kind: "debian", version, inputs: ours });
    console.log(`  vmlinux-${version} ${mib(vmlinux)} MiB, initrd-${version} ${mib(initrd)} MiB`);
  });
}

function mib(data: Uint8Array): string {
  return (data.length / 1024 / 1024).toFixed(1);
}

async function vmlinuxOf(unpacked: string): Promise<Uint8Array> {
  const boot = join(unpacked, "boot");
  const [image] = (await readdir(boot)).filter((file) => file.startsWith("vmlinuz-"));
  if (!image) throw new BuildError("the kernel package has no /boot/vmlinuz");
  return extractVmlinux(await Bun.file(join(boot, image)).bytes());
}

async function initrdOf(unpacked: string, work: string): Promise<Uint8Array> {
  const dirs = await run(["find", unpacked, "-path", "*/lib/modules/*", "-name", "kernel"]);
  const dir = dirname(dirs.trim().split("\n")[0] ?? "");
  if (dir === ".") throw new BuildError("the kernel package has no modules");
  const modules = await readModules(dir, MODULES);
  const init = join(work, "init");
  await compileStatic("initrd-init", init);
  const files = modules.map((module, i) => ({
    name: `${String(i).padStart(2, "0")}-${module.name}.ko`,
    data: module.data,
  }));
  return cpioArchive([
    { path: "dev", mode: DIRECTORY },
    { path: "dev/console", mode: CHARACTER_DEVICE, device: { major: 5, minor: 1 } },
    { path: "init", mode: EXECUTABLE, data: await Bun.file(init).bytes() },
    { path: "modules", mode: DIRECTORY },
    ...files.map((file) => ({ path: `modules/${file.name}`, mode: FILE, data: file.data })),
    {
      path: "modules/list",
      mode: FILE,
      data: Buffer.from(files.map((file) => `${file.name}\n`).join("")),
    },
    { path: "proc", mode: DIRECTORY },
  ]);
}
