// Puts the guest kernel and the base image that `make` built where the agent looks for them.

import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { encodeUuid } from "../../proto/ids.ts";
import { run } from "./run.ts";

const PLATFORM_TEAM = "00000000-0000-0000-0000-000000000000";
const MINIMAL_DEBIAN = "00000000-0000-0000-0000-000000000004";

/**
 * Copies `build/kernel/*` to `<agentDir>/kernels`, each file with its SHA-256 beside it, and the base image to
 * `images/blobs/<sha256>.ext4` with the template's link to it. What is there already is not copied again. An
 * image that a new build replaced stays: root disks may be relative to it.
 */
export async function installGuestFiles(repository: string, agentDir: string): Promise<void> {
  await installKernels(join(repository, "build/kernel"), join(agentDir, "kernels"));
  await installImage(join(repository, "build/rootfs/minimal-debian"), join(agentDir, "images"));
}

async function installKernels(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const file of await readdir(from)) {
    if (!/^(vmlinux|initrd)(-[0-9.]+)?$/.test(file)) continue;
    await copyAside(join(from, file), join(to, file));
    // Of what was built: `wrenn-agent doctor` compares what lies there with it.
    const bytes = await readFile(join(from, file));
    const sha256 = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
    await writeFile(join(to, `${file}.sha256`), `${sha256}  ${file}\n`);
  }
}

async function installImage(built: string, images: string): Promise<void> {
  const sha256 = (await readFile(`${built}.sha256`, "utf8")).trim().split(/\s/)[0];
  const blob = join(images, "blobs", `${sha256}.ext4`);
  await mkdir(join(images, "blobs"), { recursive: true });
  if (!(await Bun.file(blob).exists())) await copyAside(`${built}.ext4`, blob);
  await run(["chmod", "0444", blob]);

  const dir = join(images, "teams", encodeUuid(PLATFORM_TEAM), encodeUuid(MINIMAL_DEBIAN));
  const link = join(dir, "rootfs.ext4");
  await mkdir(dir, { recursive: true });
  await rm(`${link}.new`, { force: true });
  await symlink(relative(dir, blob), `${link}.new`);
  await rename(`${link}.new`, link);
}

/** Copies a sparse file under another name and renames it, so that a killed copy is never used. */
async function copyAside(from: string, to: string): Promise<void> {
  await run(["cp", "--sparse=always", "--reflink=auto", from, `${to}.new`]);
  await rename(`${to}.new`, to);
}
