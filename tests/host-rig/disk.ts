// The disk of the rig's host: Debian with a kernel that has KVM and device-mapper. It takes minutes and changes
// with its packages only, so it is kept by the hash of what it is made from.

import { mkdir, readdir, readFile, rename, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { inputsHash, run, step } from "../../rootfs/run.ts";
import { withWorkDir } from "../../rootfs/work-dir.ts";

const SUITE = "bookworm";
/** What a host needs is there already: no network leads out of the rig. */
const PACKAGES = [
  join(import.meta.dirname, "packages.txt"),
  join(import.meta.dirname, "../../deploy/packages.txt"),
];
const CUSTOMIZE = join(import.meta.dirname, "customize-host.sh");
/** Sparse: room for the disks of some dozens of capsules. */
const SIZE_GIB = 32;

export interface HostDisk {
  readonly image: string;
  readonly kernel: string;
  readonly initrd: string;
  /** Of the key that may log in as root. */
  readonly privateKey: string;
}

/**
 * The disk below `dir`, made unless it is there.
 * @throws BuildError without root, without network, or with the words of what failed.
 */
export async function buildHostDisk(dir: string): Promise<HostDisk> {
  const lists = await Promise.all(PACKAGES.map((path) => readFile(path, "utf8")));
  const packages = [...lists.join("\n").matchAll(/^[a-z][^ \n]*/gm)].map(String);
  const key = await inputsHash([SUITE, ...packages, String(SIZE_GIB)], [CUSTOMIZE]);
  await mkdir(dir, { recursive: true });
  const home = join(dir, `host-${key.slice(0, 16)}`);
  if (!(await readdir(dir)).some((name) => join(dir, name) === home)) {
    console.log("host of the rig:");
    await withWorkDir(dir, (work) => makeDisk({ packages, work, home }));
    for (const name of await readdir(dir)) {
      if (name.startsWith("host-") && join(dir, name) !== home) {
        await rm(join(dir, name), { recursive: true });
      }
    }
  }
  return {
    image: join(home, "disk.ext4"),
    kernel: join(home, "vmlinuz"),
    initrd: join(home, "initrd.img"),
    privateKey: join(home, "key"),
  };
}

async function makeDisk(options: {
  packages: readonly string[];
  work: string;
  home: string;
}): Promise<void> {
  const { packages, work, home } = options;
  const [made, root] = [join(work, "made"), join(work, "root")];
  await mkdir(made, { mode: 0o755 });
  const key = join(made, "key");
  await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rig", "-f", key]);
  const command = [
    ...["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"],
    ...['--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "3"'],
    // A tree that a crash leaves half made is thrown away: no need to wait for the disk.
    "--dpkgopt=force-unsafe-io",
    `--include=${packages.join(",")}`,
    `--customize-hook=${CUSTOMIZE}`,
    ...[SUITE, root],
  ];
  await step(`${SUITE} with ${packages.length} packages, by mmdebstrap`, () =>
    run(command, { env: { TMPDIR: "/var/tmp", WRENN_RIG_KEY: `${key}.pub` } }),
  );
  const image = join(made, "disk.ext4");
  await step("make the file system", async () => {
    await Bun.write(image, "");
    await truncate(image, SIZE_GIB * 1024 ** 3);
    await run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", "rig", "-d", root, image]);
  });
  for (const name of ["vmlinuz", "initrd.img"]) {
    await run(["cp", "--dereference", join(root, name), join(made, name)]);
  }
  await rename(made, home);
}
